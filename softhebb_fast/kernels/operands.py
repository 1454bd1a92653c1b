"""What launches take and leave: a layer's rule, and the tensors from one kernel to the next."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.pooling import new_map

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Rule(NamedTuple):
    """The competition and the product, as the public functions name them."""

    wta: str
    t_invert: float
    delta: float
    rank: int
    lebesgue_p: float
    pre_triangle: bool = False
    overwrite: bool = False

    @property
    def scale(self) -> float:
        return self.t_invert / math.log(2)

    @property
    def hard(self) -> bool:
        return self.wta.startswith("hard")


class Competed(NamedTuple):
    """u and what the competition leaves for activity: statistics ``[GROUPS, TILES, M]``."""

    u: Tensor
    u_low: Tensor | None
    top: Tensor | None
    win: Tensor | None
    anti: Tensor | None
    lse: Tensor | None
    tiles: int


class Gathered(NamedTuple):
    """yx ``[SPLITS, K, P]``, its sums if needed, and room for the largest |D| of every group.

    The sums are those of y and of y u ``[SPLITS, 2, K]``: without a bias and with u linear in W the
    sum of y u is <W, yx>.
    """

    yx: Tensor
    sums: Tensor | None
    largest: Tensor
    splits: int


def check_dtype(x: Tensor) -> None:
    if x.dtype not in DTYPES:
        raise TypeError(
            f"x must be float32, float16 or bfloat16 for backend='triton'; got {x.dtype}. "
            "Use backend='reference' for float64"
        )


def new_u(x: Tensor, G: Geometry) -> Tensor:
    return new_map(x, G, G.OH, G.OW)


def new_gathered(x: Tensor, bias: Tensor | None, G: Geometry, rule: Rule, splits: int) -> Gathered:
    summed = bias is not None or rule.pre_triangle
    return Gathered(
        x.new_empty((splits, G.neurons, G.P), dtype=torch.float32),
        x.new_empty((splits, 2, G.neurons), dtype=torch.float32) if summed else None,
        x.new_empty((G.GROUPS,), dtype=torch.int32),
        splits,
    )
