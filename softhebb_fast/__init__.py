"""Hebbian soft winner-take-all layers for PyTorch.

The names below are imported when they are first used, so that what computes nothing, such as the
command's help, does not wait for PyTorch. ``import softhebb_fast.ops`` registers the operators at
once, which a program needs that only loads an exported graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from softhebb_fast.lazy import lazily

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
    __getattr__, __dir__ = lazily(__name__, dict.fromkeys(__all__, "nn") | dict.fromkeys(ROOMS))
