"""Prepare: what forward and plasticity find ready, in one launch.

Counters are 0. Where plasticity multiplies 16-bit factors, x is scaled if its bound is known, else
its largest value is looked for. Where forward has enough positions to pay for it, the filters are
16-bit factors too, each scaled by its own largest weight. Where the nearest neuron is to win, the
filters' squares are summed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.float16_scale import (
    power_of_two_below,
    store_absmax,
    store_factors,
)
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.kernels.operands import Prepared, RuleArgs, Tiling, scales_y
from softhebb_fast.kernels.sync import begin
from softhebb_fast.kernels.tiles import weight_offsets

BLOCK = 2048
MOST_PROGRAMS = 264


class PrepareConstants(NamedTuple):
    """What ``prepare_kernel`` is compiled for."""

    X_PROGRAMS: int  # that look at x; those beyond them at filters
    DENSE: bool  # x has no gaps
    BLOCK: int
    BK: int
    BP: int


@triton.jit
def prepare_kernel(
    x,
    w,
    prep,
    counters,
    SIZE,
    SPAN,
    N,
    scalars,
    G: tl.constexpr,
    F: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """A share of x, or BK filters; and of the N counters.

    x has SIZE values in SPAN places of memory.
    """
    begin(OVERLAPS)
    BLOCK: tl.constexpr = F.BLOCK
    i = tl.program_id(0)
    if counters is not None:
        for i_c in range(i * BLOCK, N, tl.num_programs(0) * BLOCK):
            o = i_c + tl.arange(0, BLOCK)
            tl.store(counters + o, tl.zeros((BLOCK,), tl.int32), mask=o < N)
    if i < F.X_PROGRAMS:
        if prep.x_absmax is not None:
            store_absmax(x, prep.x_absmax, i, SIZE, G, F.DENSE, F.X_PROGRAMS, BLOCK)
        elif prep.x0 is not None:
            RANGE = tl.cdiv(tl.cdiv(SPAN, BLOCK), F.X_PROGRAMS)
            store_factors(x, prep, scalars.x_scale, i * RANGE, RANGE, SPAN, BLOCK)
    else:
        if prep.distance is not None:
            store_distance(w, prep.distance, (i - F.X_PROGRAMS) * F.BK, G, F.BK, F.BP)
        if prep.w16 is not None:
            store_filters(w, prep, (i - F.X_PROGRAMS) * F.BK, G, F.BK, F.BP)


@triton.jit
def store_filters(w, prep, first, G: tl.constexpr, BK: tl.constexpr, BP: tl.constexpr):
    """BK whole filters as 16-bit factors, each with the inverse of its scale."""
    o_k = first + tl.arange(0, BK)
    o_p = tl.arange(0, BP)
    o_w, m = weight_offsets(0, o_k, o_p, G)
    b_w = tl.load(w + o_w, mask=m, other=0.0)
    b_a = tl.abs(b_w)
    b_max = tl.max(tl.where(b_a < float("inf"), b_a, 0.0), axis=1)
    b_scale, b_inverse = power_of_two_below(b_max.to(tl.int32, bitcast=True))
    o = (o_k.to(tl.int64) * G.P)[:, None] + o_p[None, :]
    tl.store(prep.w16 + o, (b_w * b_scale[:, None]).to(tl.float16), mask=m)
    tl.store(prep.w_inverse + o_k, b_inverse, mask=o_k < G.K)


@triton.jit
def store_distance(w, distance, first, G: tl.constexpr, BK: tl.constexpr, BP: tl.constexpr):
    """``|W|^2 / 2`` of BK filters."""
    o_k = first + tl.arange(0, BK)
    b_sum = tl.zeros((BK, BP), tl.float32)
    for i_p in range(0, G.P, BP):
        o_w, m = weight_offsets(0, o_k, i_p + tl.arange(0, BP), G)
        b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32)
        b_sum += b_w * b_w
    tl.store(distance + o_k, tl.sum(b_sum, axis=1) / 2, mask=o_k < G.K)


def prepare(
    x: Tensor,
    w: Tensor,
    G: Geometry,
    c: RuleArgs,
    T: Tiling,
    row_counters: int,
    halves: bool,
) -> Prepared:
    """One launch. ``halves``: the filters as 16-bit factors, too."""
    terms, bounded = configs.float16_terms(x.dtype), c.scalars.x_scale > 0
    length = span(x)
    tiles = G.GROUPS * T.rows * T.columns if T.splits > 1 else 0
    sizes = (G.GROUPS, tiles, row_counters, G.neurons if scales_y(x, c) else 0)
    counters = x.new_empty((sum(map(_aligned, sizes)),), dtype=torch.int32)
    dw_absmax, split_counters, rows, y_absmax = _parts(counters, sizes)
    scans = terms > 0 and not bounded
    programs = configs.absmax_programs(x.numel()) if scans else 1
    if terms and bounded:
        programs = min(MOST_PROGRAMS, -(-length // BLOCK))
    tile = configs.filters(G)

    def half(*shape: int) -> Tensor:
        return x.new_empty(shape, dtype=torch.float16)

    prep = Prepared(
        x.new_empty((programs,), dtype=torch.int32) if scans else None,
        half(length) if terms else None,
        half(length) if terms > 1 else None,
        half(G.neurons, G.P) if halves else None,
        x.new_empty((G.neurons,), dtype=torch.float32) if halves else None,
        dw_absmax,
        split_counters,
        rows,
        y_absmax,
        x.new_empty((G.neurons,), dtype=torch.float32) if c.flags.NEAREST else None,
    )
    filters = -(-G.neurons // tile.BN) if halves or c.flags.NEAREST else 0
    own = prep._replace(dw_absmax=None, split_counters=None, row_counters=None, y_absmax=None)
    if scans:
        own = own._replace(x0=None, x1=None)
    launch.launch(
        prepare_kernel,
        (programs + filters,),
        tile,
        x=x if terms else None,
        w=w if filters else None,
        prep=own,
        counters=counters,
        SIZE=x.numel(),
        SPAN=length,
        N=counters.numel(),
        scalars=c.scalars,
        G=G._replace(GROUPS=1, K=G.neurons),
        F=PrepareConstants(programs, length == x.numel(), BLOCK, tile.BN, tile.BP),
    )
    return prep


def _aligned(size: int) -> int:
    return -(-size // 4) * 4  # 16 bytes


def _parts(counters: Tensor, sizes: tuple[int, ...]) -> list[Tensor | None]:
    found, first = [], 0
    for size in sizes:
        found.append(counters.narrow(0, first, size) if size else None)
        first += _aligned(size)
    return found
