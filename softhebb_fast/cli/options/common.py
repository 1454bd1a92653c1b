"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

AddCommand = Callable[..., argparse.ArgumentParser]
AUTOCAST = "train by backpropagation in bfloat16"


def add_data_option(sub: argparse.ArgumentParser) -> None:
    """The option that says where the data sets lie."""
    sub.add_argument("--data", metavar="ROOT", help="folder of the data sets")


def add_device_option(sub: argparse.ArgumentParser) -> None:
    """The option that says where tensors lie."""
    sub.add_argument("--device", help="default cuda if there is one, else cpu")


def add_run_options(sub: argparse.ArgumentParser) -> None:
    """The options of every command that makes a run: what it shows and draws."""
    sub.add_argument("--no-plots", action="store_true", help="draw nothing at the end")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    sub.add_argument(
        "--tensorboard", metavar="DIR", type=Path, help="also write the figures for TensorBoard"
    )


def add_symmetry_steps(sub: argparse.ArgumentParser) -> None:
    """The option that says when symmetry is recorded."""
    text = "steps after which the symmetry of all weights is recorded"
    sub.add_argument("--symmetry-steps", nargs="+", type=int, default=[], metavar="N", help=text)


def argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` as argparse takes it: its ValueErrors are the user's mistakes."""

    def checked(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def parse_init(text: str) -> Any:
    """An initialisation from the command line.

    ``zerO``; ``zerO:scale=fork,noise=0.01``; by layer, counted from 1: ``1=zerO;3=random_binary``
    (the others are normal).
    """
    if "=" in text.split(":")[0]:
        pairs = (part.split("=", 1) for part in text.split(";"))
        try:
            return {int(layer) - 1: parse_init(init) for layer, init in pairs}
        except ValueError:
            raise ValueError(
                f"init by layer must look like '1=zerO;3=random_binary'; got {text!r}"
            ) from None
    name, _, settings = text.partition(":")
    if not settings:
        return name
    result: dict[str, Any] = {"name": name}
    for setting in settings.split(","):
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"init settings must look like 'scale=fork'; got {setting!r}")
        try:
            result[key] = json.loads(value)
        except json.JSONDecodeError:
            result[key] = value
    return result
