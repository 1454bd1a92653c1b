"""The options of the command line that say where images are and how they are read."""

from __future__ import annotations

import argparse
import json
from typing import Any

from softhebb_fast.data import NAMES
from softhebb_fast.data.arrays import LAYOUTS
from softhebb_fast.data.reading import NORMALISATIONS


def add_dataset(sub: argparse.ArgumentParser) -> None:
    """The options for a data set and for reading it."""
    text = f"{', '.join(NAMES)}, imagefolder:PATH or arrays:PATH; default mnist"
    sub.add_argument("--dataset", default="mnist", help=text)
    sub.add_argument("--data", metavar="ROOT", help="folder of the data sets")
    group = sub.add_argument_group("own images")
    text = "scale images to this side, or height and width; default: as they are"
    group.add_argument("--size", nargs="+", type=int, metavar="N", help=text)
    text = "1 for grey, 3 for RGB; default: by the training images"
    group.add_argument("--channels", type=int, choices=(1, 3), help=text)
    text = "hold out this fraction of the training images for tests"
    group.add_argument("--holdout", type=float, metavar="F", help=text)
    text = "axes of arrays; default: by their shape"
    group.add_argument("--layout", choices=LAYOUTS, help=text)
    text = "values of arrays that become 0 and 1, or 'raw'; default: by their type"
    group.add_argument("--value-range", nargs="+", metavar="V", help=text)
    text = "leave out images that cannot be read"
    group.add_argument("--skip-damaged", action="store_true", help=text)


def add_normalise(sub: argparse.ArgumentParser) -> None:
    """The option for the normalisation of the pixels."""
    text = (
        f"{', '.join(NORMALISATIONS)}, or means and deviations of the channels as JSON; "
        "default: as published, of folders train"
    )
    sub.add_argument("--normalise", type=_moments, metavar="HOW", help=text)


def reading(options: argparse.Namespace, with_normalise: bool = False) -> dict[str, Any] | None:
    """What was asked for, as ``RunConfig.reading`` takes it; None for nothing."""
    values = {
        "image_size": _one_or_all(options.size),
        "channels": options.channels,
        "holdout": options.holdout,
        "layout": options.layout,
        "value_range": _range(options.value_range),
        "skip_damaged": options.skip_damaged or None,
        **({"normalise": options.normalise} if with_normalise else {}),
    }
    return {name: value for name, value in values.items() if value is not None} or None


def _one_or_all(values: list[Any] | None) -> Any:
    return values[0] if values is not None and len(values) == 1 else values


def _range(texts: list[str] | None) -> Any:
    if texts is None or texts == ["raw"]:
        return texts and "raw"
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise ValueError(f"--value-range must be two numbers, or raw; got {texts}") from None


def _moments(text: str) -> Any:
    if text in NORMALISATIONS:
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(NORMALISATIONS)} or such as [[0.13],[0.31]]; got {text!r}"
        ) from None
