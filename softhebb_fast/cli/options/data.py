"""The options that say where images are and how they are read."""

from __future__ import annotations

import argparse
import json
from typing import Any

from softhebb_fast.cli.names import DATA_SETS, LAYOUTS, NORMALISATIONS
from softhebb_fast.cli.options.common import add_data_option, argument


def add_data_options(sub: argparse.ArgumentParser, default: str) -> None:
    """The options for a data set, by default the one that ``default`` tells, and its reading."""
    text = f"{', '.join(DATA_SETS)}, imagefolder:PATH or arrays:PATH; default {default}"
    sub.add_argument("--dataset", help=text)
    add_data_option(sub)
    group = sub.add_argument_group("how images are read")
    text = "scale images to this side, or height and width; default: as they are"
    group.add_argument("--size", nargs="+", type=int, metavar="N", help=text)
    text = "1 for grey, 3 for RGB; default: by the training images"
    group.add_argument("--channels", type=int, choices=(1, 3), help=text)
    text = (
        f"{', '.join(NORMALISATIONS)}, or means and deviations of the channels such as "
        "[[0.13],[0.31]]; default: as published, of folders train"
    )
    group.add_argument("--normalise", type=argument(_normalisation), metavar="HOW", help=text)
    text = "hold out this fraction of the training images for tests"
    group.add_argument("--holdout", type=float, metavar="F", help=text)
    text = "axes of arrays; default: by their shape"
    group.add_argument("--layout", choices=LAYOUTS, help=text)
    text = "values of arrays that become 0 and 1, or 'raw'; default: by their type"
    group.add_argument("--value-range", nargs="+", type=argument(_value), metavar="V", help=text)
    text = "leave out images that cannot be read"
    group.add_argument("--skip-damaged", action="store_true", help=text)


def reading(options: argparse.Namespace) -> dict[str, Any] | None:
    """What was asked for, as ``reading`` of a configuration takes it; None for nothing."""
    values = {
        "image_size": _one_or_all(options.size),
        "channels": options.channels,
        "normalise": options.normalise,
        "holdout": options.holdout,
        "layout": options.layout,
        "value_range": _one_or_all(options.value_range),
        "skip_damaged": options.skip_damaged or None,
    }
    return {name: value for name, value in values.items() if value is not None} or None


def _one_or_all(values: list[Any] | None) -> Any:
    return values[0] if values is not None and len(values) == 1 else values


def _value(text: str) -> float | str:
    try:
        return text if text == "raw" else float(text)
    except ValueError:
        raise ValueError(f"must be two numbers, or raw; got {text!r}") from None


def _normalisation(text: str) -> Any:
    if text in NORMALISATIONS:
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(
            f"must be one of {', '.join(NORMALISATIONS)} or such as [[0.13],[0.31]]; got {text!r}"
        ) from None
