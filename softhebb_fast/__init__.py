"""Hebbian soft winner-take-all layers for PyTorch."""

from softhebb_fast import functional, init, optim, precision
from softhebb_fast.nn import (
    RePU,
    SoftHebbBlock,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
    convert,
    synchronise,
)

__version__ = "0.1.0"

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
    "optim",
    "precision",
    "synchronise",
]
