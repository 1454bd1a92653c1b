"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

AddCommand = Callable[..., argparse.ArgumentParser]
AUTOCAST = "train by backpropagation in bfloat16"


class Gathered(argparse.Action):
    """Values of an option that may be given several times: all of them, without its default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        before = [] if before is self.default else before
        setattr(namespace, self.dest, [*before, *values])


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
    sub.add_argument(
        "--symmetry-steps", action=Gathered, nargs="+", type=int, default=[], metavar="N", help=text
    )


def argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` as argparse takes it: its ValueErrors are the user's mistakes."""

    def checked(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked
