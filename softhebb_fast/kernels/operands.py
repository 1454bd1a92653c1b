"""What launches take and leave: a layer's rule, and the tensors from one kernel to the next."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.kernels import configs
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.options import Competition

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Rule(NamedTuple):
    """A competition, and how the kind of layer takes it."""

    wta: str
    t_invert: float
    delta: float
    rank: int
    lebesgue_p: float
    pre_triangle: bool = False
    overwrite: bool = False

    @classmethod
    def of(cls, c: Competition, pre_triangle: bool = False, overwrite: bool = False) -> Rule:
        """Of a convolution, or with ``overwrite`` of a linear layer."""
        return cls(c.wta, c.t_invert, c.delta, c.rank, c.lebesgue_p, pre_triangle, overwrite)

    @property
    def t_log2e(self) -> float:
        return self.t_invert / math.log(2)

    @property
    def y_scale(self) -> float:
        """A power of two that brings y, scaled, to at most 2^14."""
        largest = 1 + abs(self.delta) if self.wta == "hard_anti" else 1
        return 2.0 ** (14 - math.ceil(math.log2(largest)))

    @property
    def hard(self) -> bool:
        return self.wta.startswith("hard")


class Tiling(NamedTuple):
    """Tiles of plasticity, down the neurons and across the patch, and programs that share one."""

    config: Config
    splits: int
    rows: int
    columns: int


class Activity(NamedTuple):
    """y, laid out as u, and x as plasticity multiplies them, each the sum of one term or two.

    x has terms of its own where it is to be scaled. ``y_sums [PARTS, 2, K]`` are those of y and of
    y u over parts of the positions. ``dw_absmax [GROUPS]`` and what has ``split_counters`` are 0.
    """

    y: Tensor | None
    y1: Tensor | None
    x0: Tensor | None
    x1: Tensor | None
    y_sums: Tensor | None
    dw_absmax: Tensor | None
    split_counters: Tensor | None

    @property
    def counters(self) -> int:
        return 0 if self.split_counters is None else self.split_counters.numel()


NO_ACTIVITY = Activity(*(None,) * 7)


class ForwardState(NamedTuple):
    """u and what the competition leaves: statistics ``[GROUPS, TILES, M]``, or already y.

    ``x_absmax`` are the bits of the largest |x| of parts of x, if it is to be scaled.
    """

    u: Tensor
    u_low: Tensor | None
    top: Tensor | None
    win: Tensor | None
    anti: Tensor | None
    lse: Tensor | None
    x_absmax: Tensor | None
    tiles: int
    activity: Activity

    @property
    def absmax_programs(self) -> int:
        return 0 if self.x_absmax is None else self.x_absmax.numel()


class WeightUpdate(NamedTuple):
    """D of the weights ``[K, P]``, and what is needed to apply it.

    ``norms [K, COLUMNS]`` are the sums of |W|^p over columns of the patch, if rates follow from
    them; ``dw_absmax [GROUPS]`` are the bits of the largest |D|. ``y_sums [PARTS, 2, K]`` are those
    of y and of y u over parts of the positions, if needed: without a bias and with u linear in W
    the sum of y u is <W, yx>.
    """

    d: Tensor
    norms: Tensor | None
    dw_absmax: Tensor
    y_sums: Tensor | None

    @property
    def columns(self) -> int:
        return 1 if self.norms is None else self.norms.shape[1]

    @property
    def parts(self) -> int:
        return 1 if self.y_sums is None else self.y_sums.shape[0]


def check_dtype(x: Tensor) -> None:
    if x.dtype not in DTYPES:
        raise TypeError(
            f"x must be float32, float16 or bfloat16 for backend='triton'; got {x.dtype}. "
            "Use backend='reference' for float64"
        )


def tiling(x: Tensor, G: Geometry) -> Tiling:
    positions = x.shape[0] * G.pixels
    config = configs.plasticity(G, positions, x.dtype, configs.architecture(x.device))
    splits = configs.splits(G, positions, config)
    return Tiling(config, splits, -(-G.K // config.BN), -(-G.P // config.BP))


def new_x_absmax(x: Tensor) -> Tensor | None:
    """Room for the largest |x| of parts of x, where it is to be scaled."""
    if not configs.float16_terms(x.dtype):
        return None
    return x.new_empty((configs.absmax_programs(x.numel()),), dtype=torch.int32)


def new_y_sums(x: Tensor, G: Geometry, parts: int) -> Tensor:
    return x.new_empty((parts, 2, G.neurons), dtype=torch.float32)


def new_activity(x: Tensor, u: Tensor, G: Geometry, T: Tiling, parts: int) -> Activity:
    float16_terms, half = configs.float16_terms(x.dtype), torch.float16

    def counters(number: int) -> Tensor:
        return x.new_empty((number,), dtype=torch.int32)

    return Activity(
        torch.empty_like(u, dtype=half if float16_terms else x.dtype),
        torch.empty_like(u, dtype=half) if float16_terms > 1 else None,
        x.new_empty((span(x),), dtype=half) if float16_terms else None,
        x.new_empty((span(x),), dtype=half) if float16_terms > 1 else None,
        new_y_sums(x, G, parts),
        counters(G.GROUPS),
        counters(G.GROUPS * T.rows * T.columns) if T.splits > 1 else None,
    )


def new_dw(
    x: Tensor, G: Geometry, splits: int, columns: int, rated: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Room for D and the norms, which may be left out, and for yx.

    yx ``[SPLITS, K, P]`` of a single split becomes D where it lies.
    """

    def new(*shape: int) -> Tensor:
        return x.new_empty(shape, dtype=torch.float32)

    d = new(G.neurons, G.P)
    norms = new(G.neurons, columns) if rated else None
    return d, norms, d if splits == 1 else new(splits, G.neurons, G.P)
