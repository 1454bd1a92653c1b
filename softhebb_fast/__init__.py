"""Hebbian soft winner-take-all layers for PyTorch.

The names below are imported when they are first used, so that what computes nothing, such as the
command's help, does not wait for PyTorch. ``import softhebb_fast.ops`` registers the operators at
once, which a program needs that only loads an exported graph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softhebb_fast import backends as backends
    from softhebb_fast import bench as bench
    from softhebb_fast import data, functional, init, models, nn, optim, precision, presets
    from softhebb_fast import experiments as experiments
    from softhebb_fast import plots as plots
    from softhebb_fast import pretrained as pretrained
    from softhebb_fast import reference as reference
    from softhebb_fast import search as search
    from softhebb_fast import sklearn as sklearn
    from softhebb_fast import training as training
    from softhebb_fast.nn import (
        HebbianConv1d,
        HebbianConv2d,
        HebbianLinear,
        RePU,
        SoftHebbBlock,
        SoftHebbConv1d,
        SoftHebbConv2d,
        SoftHebbLinear,
        SplitTriangle,
        TopShare,
        Triangle,
        convert,
        synchronise,
    )

__version__ = "0.1.0"

__all__ = [
    "HebbianConv1d",
    "HebbianConv2d",
    "HebbianLinear",
    "RePU",
    "SoftHebbBlock",
    "SoftHebbConv1d",
    "SoftHebbConv2d",
    "SoftHebbLinear",
    "SplitTriangle",
    "TopShare",
    "Triangle",
    "convert",
    "data",
    "functional",
    "init",
    "models",
    "nn",
    "optim",
    "precision",
    "presets",
    "synchronise",
]

ROOMS = (
    "backends",
    "bench",
    "data",
    "experiments",
    "functional",
    "init",
    "models",
    "nn",
    "optim",
    "plots",
    "precision",
    "presets",
    "pretrained",
    "reference",
    "search",
    "sklearn",
    "training",
)


if not TYPE_CHECKING:  # which would take any name for one that there is

    def __getattr__(name: str) -> Any:
        if name in ROOMS:
            return import_module(f"softhebb_fast.{name}")
        if name in __all__:
            value = getattr(import_module("softhebb_fast.nn"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *ROOMS})
