"""Hebbian soft winner-take-all layers for PyTorch."""

from importlib import import_module
from typing import Any

from softhebb_fast import functional, init, nn, optim, precision
from softhebb_fast.nn import (
    RePU,
    SoftHebbBlock,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
    convert,
)

__version__ = "0.1.0"

# Rooms that are imported when they are first asked for.
ROOMS = (
    "backends",
    "bench",
    "data",
    "experiments",
    "models",
    "plots",
    "presets",
    "reference",
    "search",
    "training",
)

__all__ = [
    "RePU",
    "SoftHebbBlock",
    "SoftHebbConv1d",
    "SoftHebbConv2d",
    "SoftHebbLinear",
    "Triangle",
    "convert",
    "functional",
    "init",
    "nn",
    "optim",
    "precision",
]


def __getattr__(name: str) -> Any:
    if name not in ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *ROOMS})
