"""From tensors to launches: which kernels run, in which order."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from softhebb_fast.kernels import configs, pooling
from softhebb_fast.kernels.apply import pool_kernel
from softhebb_fast.kernels.change import project_kernel
from softhebb_fast.kernels.compete import compete_kernel
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.forward import forward_kernel
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.kernels.one_pass import one_pass_kernel
from softhebb_fast.kernels.operands import Change, Competed, Rule, new_change, new_u
from softhebb_fast.kernels.pooling import Pool, Pooling, new_blocks, new_map


def launch(kernel, grid: tuple[int, ...], args: tuple, constants: dict, config: Config) -> None:
    device = next(a.device for a in args if isinstance(a, Tensor))
    guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with guard:
        kernel[grid](*args, **constants, num_warps=config.warps, num_stages=config.stages)


def forward(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    G: Geometry,
    rule: Rule,
    E: Pooling | None = None,
    learns: bool = True,
) -> tuple[Competed, Pool | None]:
    """u and its statistics: one launch, two with pre_triangle or ``"hard_anti"``.

    With ``E`` also what is to be pooled. Without ``learns`` there are no statistics.
    """
    M = x.shape[0] * G.pixels
    summed = E is not None and E.CENTRE
    arch = configs.architecture(x.device)
    config = configs.forward(G, M, x.dtype, arch, learns, summed)
    apart = rule.pre_triangle or (learns and rule.wta == "hard_anti")
    parts = -(-G.K // config.BN)
    tiles = 1 if apart else parts

    def new(dtype: torch.dtype) -> Tensor:
        return x.new_empty((G.GROUPS, tiles, M), dtype=dtype)

    u = new_u(x, G)
    low = x.dtype != torch.float32 and (learns or rule.pre_triangle)
    u_low = torch.empty_like(u) if low else None
    total = new(torch.float32) if summed else None
    top = new(torch.float32) if tiles > 1 and learns else None
    win = new(torch.int32) if learns else None
    anti = torch.empty_like(win) if learns and rule.wta == "hard_anti" else None
    lse = new(torch.float32) if learns else None
    scans = configs.scans(x.numel()) if learns and configs.terms(x.dtype) else 0
    maxima = x.new_empty((scans,), dtype=torch.int32) if scans else None
    launch(
        forward_kernel,
        (scans + -(-M // config.BM) * parts, G.GROUPS),
        (
            *(x, w, bias, u, u_low, None if apart else total, None, top, win, lse, maxima),
            *(x.numel(), M, rule.scale, rule.lebesgue_p),
        ),
        {
            **_forward_constants(x, G, rule, config),
            "MAXIMA": scans,
            "DENSE": span(x) == x.numel(),
            "FILTERS_ONCE": w.numel() > x.numel(),
            "E": None,
            "WHOLE": False,
            "COMPETE": learns and not apart,
        },
        config,
    )
    if apart:
        config = configs.compete(G)
        launch(
            compete_kernel,
            (-(-M // config.BM),),
            (u, u_low, total, win, anti, lse, M, rule.scale, rule.rank),
            {
                "G": G,
                "PRE_TRIANGLE": rule.pre_triangle,
                "COMPETE": learns,
                "RANK": anti is not None,
                "BM": config.BM,
                "BN": config.BN,
            },
            config,
        )
    pool = None
    if E is not None:
        pool = Pool(u, total, new_map(x, G, E.OY, E.OX), M, E, parts=tiles * G.GROUPS)
    return Competed(u, u_low, top, win, anti, lse, maxima, tiles), pool


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
    launch(
        forward_kernel,
        (-(-rows // config.BM), 1),
        (
            *(x, w, bias, None, None, None, out, None, None, None, None),
            *(0, M, rule.scale, rule.lebesgue_p),
        ),
        {
            **_forward_constants(x, G, rule, config),
            "MAXIMA": 0,
            "DENSE": True,
            "FILTERS_ONCE": False,
            "E": E,
            "WHOLE": rest is None,
            "COMPETE": False,
        },
        config,
    )
    return out, rest


def _forward_constants(x: Tensor, G: Geometry, rule: Rule, config: Config) -> dict:
    return {
        "G": G,
        "P": G.P,
        "LEBESGUE": rule.lebesgue_p != 2,
        "PRECISION": configs.precision(x.dtype),
        "TURNED": configs.without_matrix_units(x.dtype, configs.architecture(x.device)),
        **config.tiles,
    }


def fits_one_pass(x: Tensor, G: Geometry, rule: Rule) -> Config | None:
    """The configuration in which one kernel does forward, activity and plasticity, or None."""
    if rule.lebesgue_p != 2 or (rule.pre_triangle and G.GROUPS > 1):
        return None
    return configs.one_pass(G, x.dtype, configs.architecture(x.device))


def one_pass(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    G: Geometry,
    rule: Rule,
    config: Config,
    E: Pooling | None = None,
    rated: bool = False,
) -> tuple[Tensor, Change, Pool | None]:
    """u and the change in two launches; with ``E`` pooled blocks instead of u, where it has any."""
    M = x.shape[0] * G.pixels
    u = total = out = pool = None
    tiled = E is not None and E.block > 0 and G.GROUPS == 1
    if tiled:
        out, pool = new_blocks(x, G, E)
    else:
        u = new_u(x, G)
        if E is not None:
            total = x.new_empty((G.GROUPS, M), dtype=torch.float32) if E.CENTRE else None
            pool = Pool(u, total, new_map(x, G, E.OY, E.OX), M, E, parts=G.GROUPS)
    rows = x.shape[0] * E.NY * E.NX * E.block if tiled else M
    splits = configs.one_pass_splits(rows, config)
    summed = bias is not None or rule.pre_triangle
    change, yx = new_change(x, G, splits, 1, splits if summed else None, rated)
    d, norms, largest, sums = change
    launch(
        one_pass_kernel,
        (splits, G.GROUPS),
        (x, w, bias, u, total, out, yx, sums, largest, M, rule.scale, rule.delta, rule.rank),
        {
            "G": G,
            "E": E if tiled else None,
            "WHOLE": tiled and pool is None,
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
    config = configs.project(G)
    launch(
        project_kernel,
        (G.neurons,),
        (yx, sums, w, d, norms, largest, rule.lebesgue_p),
        {
            "G": G,
            "P": G.P,
            "LEBESGUE": rule.lebesgue_p != 2,
            "SPLITS": splits,
            "BS": config.BM,
            "BP": config.BP,
        },
        config,
    )
    return out if u is None else u, change, pool


def pool(p: Pool, G: Geometry) -> None:
    """Pool what is left to pool: one launch."""
    launch(
        pool_kernel,
        (pooling.programs(G, p),),
        (*pooling.arguments(p), p.positions),
        {"G": G, **pooling.constants(G, p)},
        Config(0, 0, 0, 4, 1),
    )
