"""From x to u and the winners: the launches before an update, or without one."""

from __future__ import annotations

import torch
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.competition import compete_kernel
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.forward import forward_kernel
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.kernels.operands import (
    NOTHING,
    Competed,
    Rule,
    Tiling,
    new_activity,
    new_maxima,
)
from softhebb_fast.kernels.pooling import Pool, Pooling, new_blocks, new_map


def forward(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    G: Geometry,
    rule: Rule,
    E: Pooling | None = None,
    T: Tiling | None = None,
) -> tuple[Competed, Pool | None]:
    """u and its statistics, or y at once: one launch, two with pre_triangle or ``"hard_anti"``.

    With ``E`` also what is to be pooled. ``T`` is that of the update to come; without one there are
    neither statistics nor y.
    """
    learns = T is not None
    M = x.shape[0] * G.pixels
    summed = E is not None and E.CENTRE
    arch = configs.architecture(x.device)
    config = configs.forward(G, M, x.dtype, arch, learns, summed)
    apart = rule.pre_triangle or (learns and rule.wta == "hard_anti")
    at_once = learns and not apart and configs.at_once(G, w, config, x.device)
    rows, columns = -(-M // config.BM), -(-G.K // config.BN)
    tiles = 1 if apart else columns

    def new(dtype: torch.dtype) -> Tensor:
        return x.new_empty((G.GROUPS, tiles, M), dtype=dtype)

    u = new_map(x, G, G.OH, G.OW)
    held = at_once and configs.held(config, x.dtype, arch)
    low = x.dtype != torch.float32 and (rule.pre_triangle or (learns and not held))
    u_low = torch.empty_like(u) if low else None
    total = new(torch.float32) if summed else None
    left = learns and (tiles > 1 or not at_once)
    top = new(torch.float32) if left and tiles > 1 else None
    win = new(torch.int32) if left else None
    anti = torch.empty_like(win) if learns and rule.wta == "hard_anti" else None
    lse = new(torch.float32) if left else None
    maxima = new_maxima(x) if learns else None
    activity, awaited = NOTHING, None
    if at_once:
        activity = new_activity(x, u, G, T, rows)
        counters = G.GROUPS * rows if tiles > 1 else 0
        if counters or maxima is not None:
            awaited = x.new_zeros((1 + counters,), dtype=torch.int32)
    competed = Competed(u, u_low, top, win, anti, lse, maxima, tiles, activity)
    abreast = columns if activity.x0 is None else columns + 1
    launch.launch(
        forward_kernel,
        (competed.scans + rows * abreast, G.GROUPS),
        (
            *(x, w, bias, u, u_low, None if apart else total, None, top, win, lse, maxima),
            *(*activity, awaited, x.numel(), span(x)),
            *(M, rule.scale, rule.delta, rule.y_scale, rule.lebesgue_p),
        ),
        {
            **_constants(x, G, rule, config),
            "MAXIMA": competed.scans,
            "COUNTERS": activity.counters,
            "HELD": held,
            "FILTERS_ONCE": not at_once and w.numel() > x.numel(),
            "E": None,
            "WHOLE": False,
            "COMPETE": learns and not apart,
        },
        config,
    )
    if apart:
        _compete(competed, total, M, G, rule, learns)
    pool = None
    if E is not None:
        pool = Pool(u, total, new_map(x, G, E.OY, E.OX), M, E, parts=tiles * G.GROUPS)
    return competed, pool


def forward_pooled(
    x: Tensor, w: Tensor, bias: Tensor | None, G: Geometry, rule: Rule, E: Pooling
) -> tuple[Tensor, Pool | None] | None:
    """A block that does not learn, pooled tile by tile: no u. None where the tile does not fit."""
    rows = x.shape[0] * E.NY * E.NX * E.block
    M = x.shape[0] * G.pixels
    config = configs.in_tile(G, x.dtype)
    if not E.block or G.GROUPS > 1 or config is None or rule.pre_triangle:
        return None
    out, rest = new_blocks(x, G, E)
    launch.launch(
        forward_kernel,
        (-(-rows // config.BM), 1),
        (
            *(x, w, bias, None, None, None, out, None, None, None, None),
            *(*NOTHING, None, 0, 0),
            *(M, rule.scale, rule.delta, rule.y_scale, rule.lebesgue_p),
        ),
        {
            **_constants(x, G, rule, config),
            "MAXIMA": 0,
            "COUNTERS": 0,
            "HELD": False,
            "FILTERS_ONCE": False,
            "E": E,
            "WHOLE": rest is None,
            "COMPETE": False,
        },
        config,
    )
    return out, rest


def _constants(x: Tensor, G: Geometry, rule: Rule, config: Config) -> dict:
    return {
        "G": G,
        "P": G.P,
        "WTA": rule.wta,
        "OVERWRITE": rule.overwrite,
        "LEBESGUE": rule.lebesgue_p != 2,
        "PRECISION": configs.precision(x.dtype),
        "TURNED": configs.without_matrix_units(x.dtype, configs.architecture(x.device)),
        "DENSE": span(x) == x.numel(),
        **config.tiles,
    }


def _compete(
    c: Competed, total: Tensor | None, positions: int, G: Geometry, rule: Rule, learns: bool
) -> None:
    config = configs.compete(G)
    launch.launch(
        compete_kernel,
        (-(-positions // config.BM),),
        (c.u, c.u_low, total, c.win, c.anti, c.lse, positions, rule.scale, rule.rank),
        {
            "G": G,
            "PRE_TRIANGLE": rule.pre_triangle,
            "COMPETE": learns,
            "RANK": c.anti is not None,
            "BM": config.BM,
            "BN": config.BN,
        },
        config,
    )
