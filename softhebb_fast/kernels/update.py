"""From u to the weights: the launches that learn after a forward or a one-pass kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from softhebb_fast.kernels import configs, launch, pooling
from softhebb_fast.kernels.activity import activity_kernel
from softhebb_fast.kernels.apply import apply_kernel
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.kernels.operands import (
    NOTHING,
    Activity,
    Change,
    Competed,
    Rule,
    Tiling,
    new_activity,
    new_change,
)
from softhebb_fast.kernels.plasticity import plasticity_kernel
from softhebb_fast.kernels.pooling import Pool


def activity(x: Tensor, c: Competed, G: Geometry, rule: Rule, T: Tiling, biased: bool) -> Activity:
    """y, where forward left it: one launch."""
    M = x.shape[0] * G.pixels
    config, parts = configs.activity(G), configs.parts(G, M)
    made = new_activity(x, c.u, G, T, parts)
    size = 0 if made.x0 is None else span(x)
    programs = parts * -(-G.K // config.BN) * G.GROUPS + -(-size // (config.BM * config.BN))
    launch.launch(
        activity_kernel,
        (programs,),
        (
            *(c.u, c.u_low, c.top, c.win, c.anti, c.lse, x if size else None, c.maxima, *made),
            *(size, M, rule.scale, rule.delta, rule.y_scale),
        ),
        {
            "G": G,
            "WTA": rule.wta,
            "OVERWRITE": rule.overwrite,
            "BIASED": biased,
            "TILES": c.tiles,
            "PARTS": parts,
            "COUNTERS": made.counters,
            "MAXIMA": c.scans,
            "BM": config.BM,
            "BN": config.BN,
        },
        config,
    )
    return made


def plasticity(
    x: Tensor,
    w: Tensor,
    c: Competed,
    G: Geometry,
    rule: Rule,
    T: Tiling,
    rated: bool = False,
    biased: bool = False,
) -> Change:
    """The change, its positions split over programs: one launch, or two with ``activity``."""
    M = x.shape[0] * G.pixels
    a = activity(x, c, G, rule, T, biased) if c.activity is NOTHING else c.activity
    d, norms, yx = new_change(x, G, T.splits, T.columns, rated)
    yu = None
    if T.splits > 1:
        yu = x.new_empty((T.columns, T.splits, G.neurons), dtype=torch.float32)
    launch.launch(
        plasticity_kernel,
        (T.rows * T.columns, T.splits, G.GROUPS),
        (
            *(x if a.x0 is None else a.x0, a.x1, a.y, a.y1, w, a.sums, yx),
            *(yu, c.maxima, a.arrived, d, norms, a.largest),
            *(M, rule.lebesgue_p, 1 / rule.y_scale),
        ),
        {
            "G": G,
            "P": G.P,
            "LEBESGUE": rule.lebesgue_p != 2,
            "SPLITS": T.splits,
            "PARTS": a.sums.shape[0],
            "MAXIMA": c.scans,
            **T.config.tiles,
        },
        T.config,
    )
    return Change(d, norms, a.largest, a.sums)


def apply(
    w: Tensor,
    bias: Tensor | None,
    change: Change,
    positions: int,
    G: Geometry,
    rule: Rule,
    delta: Tensor | None,
    bias_delta: Tensor | None,
    lr: float = 0.0,
    lr_power: float = 0.5,
    pool: Pool | None = None,
) -> None:
    """``D / max |D|`` into ``delta``; where that is None, the step on ``w``: one launch.

    It also pools what is left to pool.
    """
    config = configs.apply(G)
    tiles = -(-G.K // config.BN) * -(-G.P // config.BP) * G.GROUPS
    launch.launch(
        apply_kernel,
        (tiles + pooling.programs(G, pool),),
        (
            *(change.d, change.norms, change.largest, w if delta is None else None, delta),
            *(None if bias_delta is None else change.sums, bias, bias_delta),
            *(*pooling.arguments(pool), positions, rule.scale, lr, lr_power, rule.lebesgue_p),
        ),
        {
            "G": G,
            "P": G.P,
            "LEBESGUE": rule.lebesgue_p != 2,
            "COLUMNS": change.columns,
            "PARTS": change.parts,
            "BK": config.BN,
            "BP": config.BP,
            **pooling.constants(G, pool),
        },
        config,
    )
