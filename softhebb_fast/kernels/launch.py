"""From tensors to launches: what is allocated, which kernels run, in which order."""

from __future__ import annotations

import contextlib
import math
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.kernels import configs
from softhebb_fast.kernels.apply import apply_kernel, project_kernel
from softhebb_fast.kernels.compete import compete_kernel
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.forward import forward_kernel
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.one_pass import one_pass_kernel
from softhebb_fast.kernels.plasticity import plasticity_kernel

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
    """u and what the competition leaves for plasticity: statistics ``[GROUPS, TILES, M]``."""

    u: Tensor
    u_low: Tensor | None
    top: Tensor | None
    win: Tensor
    anti: Tensor | None
    lse: Tensor
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


def launch(kernel, grid: tuple[int, ...], args: tuple, constants: dict, config: Config) -> None:
    device = next(a.device for a in args if isinstance(a, Tensor))
    guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with guard:
        kernel[grid](*args, **constants, num_warps=config.warps, num_stages=config.stages)


def check_dtype(x: Tensor) -> None:
    if x.dtype not in DTYPES:
        raise TypeError(
            f"x must be float32, float16 or bfloat16 for backend='triton'; got {x.dtype}. "
            "Use backend='reference' for float64"
        )


def new_u(x: Tensor, G: Geometry) -> Tensor:
    layout = torch.channels_last if G.U_CHANNELS_LAST else torch.contiguous_format
    shape = (x.shape[0], G.neurons, G.OH, G.OW)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def new_gathered(x: Tensor, bias: Tensor | None, G: Geometry, rule: Rule, splits: int) -> Gathered:
    summed = bias is not None or rule.pre_triangle
    return Gathered(
        x.new_empty((splits, G.neurons, G.P), dtype=torch.float32),
        x.new_empty((splits, 2, G.neurons), dtype=torch.float32) if summed else None,
        x.new_empty((G.GROUPS,), dtype=torch.int32),
        splits,
    )


def forward(x: Tensor, w: Tensor, bias: Tensor | None, G: Geometry, rule: Rule) -> Competed:
    """u and its statistics: one launch, two with pre_triangle or ``"hard_anti"``."""
    M = x.shape[0] * G.pixels
    chosen = configs.precision(x.dtype)
    config = configs.forward(G, M, x.dtype, configs.architecture(x.device))
    apart = rule.pre_triangle or rule.wta == "hard_anti"
    run = configs.run(G, M, config)
    parts = -(-G.K // (config.BN * run))
    tiles = 1 if apart else parts
    u = new_u(x, G)
    u_low = None if x.dtype == torch.float32 else torch.empty_like(u)
    top = x.new_empty((G.GROUPS, tiles, M), dtype=torch.float32) if tiles > 1 else None
    win = x.new_empty((G.GROUPS, tiles, M), dtype=torch.int32)
    anti = torch.empty_like(win) if rule.wta == "hard_anti" else None
    lse = x.new_empty((G.GROUPS, tiles, M), dtype=torch.float32)
    launch(
        forward_kernel,
        (-(-M // config.BM) * parts, G.GROUPS),
        (x, w, bias, u, u_low, top, win, lse, M, rule.scale, rule.lebesgue_p),
        {
            "G": G,
            "P": G.P,
            "LEBESGUE": rule.lebesgue_p != 2,
            "COMPETE": not apart,
            "PRECISION": chosen,
            "RUN": run,
            **config.tiles,
        },
        config,
    )
    if apart:
        config = configs.compete(G)
        launch(
            compete_kernel,
            (-(-M // config.BM),),
            (u, u_low, win, anti, lse, M, rule.scale, rule.rank),
            {
                "G": G,
                "PRE_TRIANGLE": rule.pre_triangle,
                "RANK": anti is not None,
                "BM": config.BM,
                "BN": config.BN,
            },
            config,
        )
    return Competed(u, u_low, top, win, anti, lse, tiles)


def fits_one_pass(x: Tensor, G: Geometry, rule: Rule) -> Config | None:
    """The configuration in which one kernel does forward and plasticity, or None."""
    if rule.lebesgue_p != 2 or (rule.pre_triangle and G.GROUPS > 1):
        return None
    return configs.one_pass(G, x.dtype, configs.architecture(x.device))


def one_pass(
    x: Tensor, w: Tensor, bias: Tensor | None, G: Geometry, rule: Rule, config: Config
) -> tuple[Tensor, Gathered]:
    """u and yx in one launch."""
    M = x.shape[0] * G.pixels
    splits = configs.one_pass_splits(M, config)
    u = new_u(x, G)
    room = new_gathered(x, bias, G, rule, splits)
    launch(
        one_pass_kernel,
        (splits, G.GROUPS),
        (x, w, bias, u, *room[:3], M, rule.scale, rule.delta, rule.rank),
        {
            "G": G,
            "P": G.P,
            "PRE_TRIANGLE": rule.pre_triangle,
            "WTA": rule.wta,
            "OVERWRITE": rule.overwrite,
            "SPLITS": splits,
            "PRECISION": configs.precision(x.dtype),
            **config.tiles,
            "REST": configs.rest(G, config),
        },
        config,
    )
    return u, room


def plasticity(x: Tensor, bias: Tensor | None, c: Competed, G: Geometry, rule: Rule) -> Gathered:
    """yx, split over ranges of positions: one launch."""
    M = x.shape[0] * G.pixels
    chosen = configs.precision(x.dtype)
    arch = configs.architecture(x.device)
    config = configs.plasticity(G, x.dtype, arch)
    splits = configs.splits(G, M, config)
    room = new_gathered(x, bias, G, rule, splits)
    launch(
        plasticity_kernel,
        (-(-G.K // config.BN) * -(-G.P // config.BP), splits, G.GROUPS),
        (x, c.u, c.u_low, c.top, c.win, c.anti, c.lse, *room[:3], M, rule.scale, rule.delta),
        {
            "G": G,
            "P": G.P,
            "WTA": rule.wta,
            "OVERWRITE": rule.overwrite,
            "TILES": c.tiles,
            "SPLITS": splits,
            "PRECISION": chosen,
            "TURNED": configs.turned(G, x.dtype, arch),
            **config.tiles,
        },
        config,
    )
    return room


def apply(
    w: Tensor,
    bias: Tensor | None,
    gathered: Gathered,
    positions: int,
    G: Geometry,
    rule: Rule,
    delta: Tensor | None,
    bias_delta: Tensor | None,
    lr: float = 0.0,
    lr_power: float = 0.5,
) -> None:
    """``D / max |D|`` into ``delta``; where that is None, the step on ``w``: two launches."""
    yx, sums, largest, splits = gathered
    yu = w.new_empty((G.neurons,), dtype=torch.float32)
    rate = torch.empty_like(yu) if delta is None else None
    constants = {"G": G, "P": G.P, "SPLITS": splits}
    config = configs.project(G)
    launch(
        project_kernel,
        (G.K, G.GROUPS),
        (yx, sums, w, yu, rate, largest, lr, lr_power, rule.lebesgue_p),
        {**constants, "LEBESGUE": rule.lebesgue_p != 2, "BS": config.BM, "BP": config.BP},
        config,
    )
    config = configs.apply(G)
    launch(
        apply_kernel,
        (-(-G.K // config.BN), -(-G.P // config.BP), G.GROUPS),
        (yx, sums, w, bias, yu, rate, largest, delta, bias_delta, positions, rule.scale),
        {**constants, "BN": config.BN, "BP": config.BP},
        config,
    )
