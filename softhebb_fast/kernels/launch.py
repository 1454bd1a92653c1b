"""Launching a kernel; and the launches of one pass, and of pooling alone."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from softhebb_fast.kernels import configs, pooling
from softhebb_fast.kernels.apply import pool_kernel
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.one_pass import one_pass_kernel
from softhebb_fast.kernels.operands import Change, Rule, new_change, new_sums
from softhebb_fast.kernels.pooling import Pool, Pooling, new_blocks, new_map
from softhebb_fast.kernels.reduction import project_kernel


def launch(kernel, grid: tuple[int, ...], args: tuple, constants: dict, config: Config) -> None:
    device = next(a.device for a in args if isinstance(a, Tensor))
    guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with guard:
        kernel[grid](*args, **constants, num_warps=config.warps, num_stages=config.stages)


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
        u = new_map(x, G, G.OH, G.OW)
        if E is not None:
            total = x.new_empty((G.GROUPS, M), dtype=torch.float32) if E.CENTRE else None
            pool = Pool(u, total, new_map(x, G, E.OY, E.OX), M, E, parts=G.GROUPS)
    rows = x.shape[0] * E.NY * E.NX * E.block if tiled else M
    splits = configs.one_pass_splits(rows, config)
    summed = bias is not None or rule.pre_triangle
    d, norms, yx = new_change(x, G, splits, 1, rated)
    sums = new_sums(x, G, splits) if summed else None
    largest = x.new_empty((G.GROUPS,), dtype=torch.int32)
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
    return out if u is None else u, Change(d, norms, largest, sums), pool


def pool(p: Pool, G: Geometry) -> None:
    """Pool what is left to pool: one launch."""
    launch(
        pool_kernel,
        (pooling.programs(G, p),),
        (*pooling.arguments(p), p.positions),
        {"G": G, **pooling.constants(G, p)},
        Config(0, 0, 0, 4, 1),
    )
