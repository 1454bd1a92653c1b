"""Activity: y from u and the statistics of its tiles, once for all who need it.

Plasticity needs a value of y for every column of its tiles. Matrix units take 16-bit factors as
they lie in memory but want those of 32 bits turned. So a float32 factor is float16 there, which has
the 11 bits of tf32, and for tf32x3 float16 and its rounded rest, 22 bits. What float16 has less is
range: both factors are scaled by powers of two, x by one that follows from its maximum. The y of a
competition has a bound. One that has none is left in float32, with the largest of every neuron, for
plasticity to scale as it loads it.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.float16_scale import store_factors, store_terms, x_factor
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.kernels.operands import (
    NOTHING_PREPARED,
    Activity,
    ForwardState,
    Prepared,
    RuleArgs,
    new_activity,
)
from softhebb_fast.kernels.rules import activity_of, rivals, summed
from softhebb_fast.kernels.sync import begin
from softhebb_fast.kernels.tiles import load_statistics, load_u, u_offsets


class ActivityConstants(NamedTuple):
    """What ``activity_kernel`` is compiled for."""

    BM: int
    BN: int
    TILES: int  # of forward, whose statistics are merged
    PARTS: int  # of the positions
    SUMMED: bool  # activities, for a bias or the caller
    ABSMAX_PROGRAMS: int


@triton.jit
def activity_kernel(
    pre,
    stats,
    x,
    act,
    prep,
    signals,
    SIZE,
    M,
    scalars,
    G: tl.constexpr,
    C: tl.constexpr,
    F: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """y of BN neurons in one of PARTS of the positions, laid out as u, and what it sums to.

    ``y_sums [PARTS, 2, K]`` are those of ``rules.summed``. The first programs take the last
    positions: what forward wrote last is read first, while the cache may still hold it. Programs
    beyond those scale BM * BN values of x, if nobody has.
    """
    begin(OVERLAPS)
    BM: tl.constexpr = F.BM
    BN: tl.constexpr = F.BN
    PARTS: tl.constexpr = F.PARTS
    COLUMNS: tl.constexpr = (G.K + BN - 1) // BN
    PROGRAMS: tl.constexpr = PARTS * COLUMNS * G.GROUPS
    i = tl.program_id(0)
    if i < PROGRAMS:
        i_g = i // COLUMNS % G.GROUPS
        i_s = i // (COLUMNS * G.GROUPS)
        o_k = i % COLUMNS * BN + tl.arange(0, BN)
        m_k = o_k < G.K
        b_ys = tl.zeros((BM, BN), tl.float32)
        b_yu = tl.zeros((BM, BN), tl.float32)
        RANGE = tl.cdiv(tl.cdiv(M, BM), PARTS) * BM
        FIRST = (PARTS - 1 - i_s) * RANGE
        for i_m in range(FIRST, tl.minimum(FIRST + RANGE, M), BM):
            o_m = i_m + tl.arange(0, BM)
            m = (o_m < M)[:, None] & m_k[None, :]
            o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
            b_top, b_win, b_log = o_m, o_m, o_m
            if stats.win is not None:
                b_top, b_win, b_log = load_statistics(
                    stats, i_g, o_m, M, scalars.t_log2e, F.TILES, C
                )
            b_anti = b_win
            if C.RANKS:
                b_anti = tl.load(stats.anti + i_g * M + o_m, mask=o_m < M, other=-1)
            m_y = m
            if C.SPARSE:
                m_y = m & ((o_k[None, :] == b_win[:, None]) | (o_k[None, :] == b_anti[:, None]))
            b_u = load_u(pre, o, m_y, 0.0, True)
            b_c = rivals(b_u, signals, i_g, o_k, G, C)
            b_s, b_p = store_activity(
                *(pre, act, signals, o, b_u, b_c, i_g, o_m, M, o_k, b_win, b_anti),
                *(b_top, b_log, scalars, G, C),
            )
            b_ys += b_s
            b_yu += b_p
        store_sums(act.y_sums, i_s, i_g, o_k, b_ys, b_yu, F.SUMMED, G, C)
    elif prep.x_absmax is not None:
        b_scale, _ = x_factor(prep, scalars, F.ABSMAX_PROGRAMS)
        store_factors(x, prep, b_scale, i - PROGRAMS, 1, SIZE, BM * BN)


@triton.jit
def store_activity(
    pre,
    act,
    signals,
    o,
    b_u,
    b_c,
    i_g,
    o_m,
    M,
    o_k,
    b_win,
    b_anti,
    b_top,
    b_log,
    scalars,
    G: tl.constexpr,
    C: tl.constexpr,
):
    """y of a tile of u ``[BM, BN]``, of which ``b_c`` competes, stored; and what it sums to.

    It is scaled where it is a 16-bit factor of a float32 layer. With SPARSE u may be anything where
    y is 0.
    """
    m = (o_m < M)[:, None] & (o_k < G.K)[None, :]
    m_win = o_k[None, :] == b_win[:, None]
    m_anti = o_k[None, :] == b_anti[:, None]
    b_y, b_f = activity_of(
        *(b_u, b_c, m_win, m_anti, b_top[:, None], b_log[:, None]),
        *(signals, i_g, o_m, M, o_k, scalars, G, C),
    )
    if act.y_absmax is not None:
        b_a = tl.abs(b_y)
        b_a = tl.max(tl.where(m & (b_a < float("inf")), b_a, 0.0), axis=0)
        o_a = act.y_absmax + i_g * G.K + o_k
        tl.atomic_max(o_a, b_a.to(tl.int32, bitcast=True), mask=o_k < G.K, sem="relaxed")
    if act.y is not None:
        Y_SCALE = 1.0
        if act.y_absmax is None and act.y.dtype != pre.u.dtype:
            Y_SCALE = scalars.y_scale
        store_terms(act.y, act.y1, o, m, b_y * Y_SCALE)
    return summed(b_y, b_u, b_f, m, m & (m_win | m_anti) if C.SPARSE else m, C)


@triton.jit
def finish_tile(
    pre,
    act,
    signals,
    i_s,
    i_g,
    o_m,
    M,
    o_k,
    b_u,
    b_top,
    b_win,
    b_log,
    scalars,
    SUMMED: tl.constexpr,
    G: tl.constexpr,
    C: tl.constexpr,
):
    """y of positions ``o_m`` and neurons ``o_k``, and their part ``i_s`` of the sums."""
    o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
    b_c = rivals(b_u, signals, i_g, o_k, G, C)
    b_s, b_g = store_activity(
        *(pre, act, signals, o, b_u, b_c, i_g, o_m, M, o_k, b_win, b_win, b_top, b_log),
        *(scalars, G, C),
    )
    store_sums(act.y_sums, i_s, i_g, o_k, b_s, b_g, SUMMED, G, C)


@triton.jit
def store_sums(
    y_sums, i_s, i_g, o_k, b_s, b_g, SUMMED: tl.constexpr, G: tl.constexpr, C: tl.constexpr
):
    """Part ``i_s`` of ``y_sums [PARTS, 2, K]``: of the columns of both tiles of ``rules.summed``.

    Without SUMMED nobody reads the first, nor the second where the rule has no gain.
    """
    N: tl.constexpr = G.GROUPS * G.K
    o_s = y_sums + 2 * i_s * N + i_g * G.K + o_k
    if SUMMED:
        tl.store(o_s, tl.sum(b_s, axis=0), mask=o_k < G.K)
    if C.GAIN != "none":
        tl.store(o_s + N, tl.sum(b_g, axis=0), mask=o_k < G.K)


def activity(x: Tensor, state: ForwardState, G: Geometry, c: RuleArgs, summed: bool) -> Activity:
    """y, where forward left it: one launch."""
    M, prep = x.shape[0] * G.pixels, state.prep
    config, parts = configs.activity(G), configs.parts(G, M)
    act = new_activity(x, state.pre.u, G, c, parts, prep.y_absmax)
    size = 0 if prep.x_absmax is None else span(x)
    programs = parts * -(-G.K // config.BN) * G.GROUPS + -(-size // (config.BM * config.BN))
    launch.launch(
        activity_kernel,
        (programs,),
        config,
        pre=state.pre._replace(u_sums=None),
        stats=state.stats,
        x=x if size else None,
        act=act,
        prep=Prepared(prep.x_absmax, prep.x0, prep.x1) if size else NOTHING_PREPARED,
        signals=c.heard(prep),
        SIZE=size,
        M=M,
        scalars=c.scalars,
        G=G,
        C=c.flags,
        F=ActivityConstants(config.BM, config.BN, state.tiles, parts, summed, prep.absmax_programs),
    )
    return act
