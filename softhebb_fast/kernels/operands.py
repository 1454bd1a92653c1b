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
    def y_scale(self) -> float:
        """A power of two that brings y, scaled, to at most 2^14."""
        largest = 1 + abs(self.delta) if self.wta == "hard_anti" else 1
        return 2.0 ** (14 - math.ceil(math.log2(largest)))

    @property
    def hard(self) -> bool:
        return self.wta.startswith("hard")


class Competed(NamedTuple):
    """u and what the competition leaves for activity: statistics ``[GROUPS, TILES, M]``.

    ``maxima`` are the bits of the largest |x| of parts of x, if it is to be scaled.
    """

    u: Tensor
    u_low: Tensor | None
    top: Tensor | None
    win: Tensor | None
    anti: Tensor | None
    lse: Tensor | None
    maxima: Tensor | None
    tiles: int

    @property
    def scans(self) -> int:
        return 0 if self.maxima is None else self.maxima.numel()


class Change(NamedTuple):
    """D of the weights ``[K, P]``, and what is needed to apply it.

    ``norms [K, COLUMNS]`` are the sums of |W|^p over columns of the patch, if rates follow from
    them; ``largest [GROUPS]`` are the bits of the largest |D|. ``sums [PARTS, 2, K]`` are those of
    y and of y u over parts of the positions, if needed: without a bias and with u linear in W the
    sum of y u is <W, yx>.
    """

    d: Tensor
    norms: Tensor | None
    largest: Tensor
    sums: Tensor | None

    @property
    def columns(self) -> int:
        return 1 if self.norms is None else self.norms.shape[1]

    @property
    def parts(self) -> int:
        return 1 if self.sums is None else self.sums.shape[0]


def check_dtype(x: Tensor) -> None:
    if x.dtype not in DTYPES:
        raise TypeError(
            f"x must be float32, float16 or bfloat16 for backend='triton'; got {x.dtype}. "
            "Use backend='reference' for float64"
        )


def new_u(x: Tensor, G: Geometry) -> Tensor:
    return new_map(x, G, G.OH, G.OW)


def new_change(
    x: Tensor, G: Geometry, splits: int, columns: int, parts: int | None, rated: bool
) -> tuple[Change, Tensor]:
    """Room for a change, of which the rates and the sums may be left out, and for its yx.

    yx ``[SPLITS, K, P]`` of a single split becomes D where it lies.
    """

    def new(*shape: int) -> Tensor:
        return x.new_empty(shape, dtype=torch.float32)

    change = Change(
        new(G.neurons, G.P),
        new(G.neurons, columns) if rated else None,
        x.new_empty((G.GROUPS,), dtype=torch.int32),
        None if parts is None else new(parts, 2, G.neurons),
    )
    return change, change.d if splits == 1 else new(splits, G.neurons, G.P)
