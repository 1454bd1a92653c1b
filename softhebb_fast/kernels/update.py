"""From u to the weights: the launches that learn after a forward or a one-pass kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from softhebb_fast.kernels import configs, launch, pooling
from softhebb_fast.kernels.activity import activity_kernel
from softhebb_fast.kernels.apply import apply_kernel
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.kernels.operands import Change, Competed, Rule, new_change
from softhebb_fast.kernels.plasticity import plasticity_kernel
from softhebb_fast.kernels.pooling import Pool


def activity(
    x: Tensor, c: Competed, G: Geometry, rule: Rule, change: Change, arrived: Tensor | None
) -> tuple[list, list]:
    """y, laid out as u, and x, both as plasticity multiplies them: one launch.

    Also the sums of ``change``; its maximum and what has ``arrived`` begin at 0.
    """
    M = x.shape[0] * G.pixels
    terms = configs.terms(x.dtype)
    config = configs.activity(G)
    size, factors, values = 0, [], [torch.empty_like(c.u)]
    if terms:
        size = span(x)
        factors = [x.new_empty((size,), dtype=torch.float16) for _ in range(terms)]
        values = [torch.empty_like(c.u, dtype=torch.float16) for _ in range(terms)]
    values, factors = (t + [None] * (2 - len(t)) for t in (values, factors))
    tile = config.BM * config.BN
    programs = change.parts * -(-G.K // config.BN) * G.GROUPS + -(-size // tile)
    launch.launch(
        activity_kernel,
        (programs,),
        (
            *(c.u, c.u_low, c.top, c.win, c.anti, c.lse, *values),
            *(x if size else None, *factors, c.maxima, change.sums, change.largest, arrived),
            *(size, M, rule.scale, rule.delta, rule.y_scale),
        ),
        {
            "G": G,
            "WTA": rule.wta,
            "OVERWRITE": rule.overwrite,
            "TILES": c.tiles,
            "PARTS": change.parts,
            "COUNTERS": 0 if arrived is None else arrived.numel(),
            "MAXIMA": c.scans,
            "BM": config.BM,
            "BN": config.BN,
        },
        config,
    )
    return values, factors if terms else [x, None]


def plasticity(
    x: Tensor, w: Tensor, c: Competed, G: Geometry, rule: Rule, rated: bool = False
) -> Change:
    """The change, its positions split over programs: two launches."""
    M = x.shape[0] * G.pixels
    config = configs.plasticity(G, M, x.dtype, configs.architecture(x.device))
    splits = configs.splits(G, M, config)
    rows, columns = -(-G.K // config.BN), -(-G.P // config.BP)
    change, yx = new_change(x, G, splits, columns, configs.parts(G, M), rated)
    arrived = None
    if splits > 1:
        arrived = x.new_empty((G.GROUPS * rows * columns,), dtype=torch.int32)
    values, factors = activity(x, c, G, rule, change, arrived)
    d, norms, largest, sums = change
    launch.launch(
        plasticity_kernel,
        (rows * columns, splits, G.GROUPS),
        (
            *(*factors, *values, w, sums, yx, c.maxima, arrived, d, norms, largest),
            *(M, rule.lebesgue_p, 1 / rule.y_scale),
        ),
        {
            "G": G,
            "P": G.P,
            "LEBESGUE": rule.lebesgue_p != 2,
            "SPLITS": splits,
            "PARTS": change.parts,
            "MAXIMA": c.scans,
            **config.tiles,
        },
        config,
    )
    return change


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
