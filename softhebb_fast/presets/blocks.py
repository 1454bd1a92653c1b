"""The pieces that the tables of presets are written in."""

from __future__ import annotations

from typing import Any

from .types import Layer, Pool

MAX = Pool("max", 4, 2, 1)
MAX2 = Pool("max", 2, 2, 0)
AVG = Pool("avg", 4, 2, 1)
AVG2 = Pool("avg", 2, 2, 0)

RELU = ("relu", 1.0)


def triangle(power: float) -> tuple[str, float]:
    return ("triangle", power)


def soft(
    out: int,
    kernel: int,
    padding: int,
    t: float,
    lr: float,
    power: float,
    pool: Pool,
    **fields: Any,
) -> Layer:
    """A soft_anti conv block with a triangle of that power; q = 0.5 unless `lr_power` is given."""
    fields = {"lr_power": 0.5, "t_invert": t, "lr": lr, "activation": triangle(power), **fields}
    return Layer("conv", "soft_anti", out, kernel, padding, pool=pool, **fields)


def hard(
    out: int, kernel: int, padding: int, lr: float, power: float, pool: Pool, **fields: Any
) -> Layer:
    """A hard conv block with a triangle of that power; q = 0.75 unless `lr_power` is given."""
    fields = {"lr": lr, "activation": triangle(power), **fields}
    return Layer("conv", "hard", out, kernel, padding, pool=pool, **fields)


def bp(out: int, kernel: int, padding: int, pool: Pool = MAX, **fields: Any) -> Layer:
    """A backpropagated conv block, with relu unless another `activation` is given."""
    fields = {"activation": RELU, **fields}
    return Layer("conv", "bp", out, kernel, padding, pool=pool, **fields)


def head(dropout: float = 0.5) -> Layer:
    """The linear classifier, one output a class."""
    return Layer("linear", "bp", dropout=dropout)
