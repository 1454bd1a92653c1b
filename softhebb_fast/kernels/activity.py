"""Activity: y from u and the statistics of its tiles, once for all who need it.

Plasticity needs a value of y for every column of its tiles. Matrix units take 16-bit factors as
they lie in memory but want those of 32 bits turned. So a float32 factor is float16 there, which has
the 11 bits of tf32, and for tf32x3 float16 and its rounded rest, 22 bits. What float16 has less is
range: both factors are scaled by powers of two, x by one that follows from its maximum.
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
    CompetitionArgs,
    ForwardState,
    Prepared,
    new_activity,
)
from softhebb_fast.kernels.tiles import competition, load_statistics, load_u, u_offsets


class ActivityConstants(NamedTuple):
    """What ``activity_kernel`` is compiled for."""

    BM: int
    BN: int
    TILES: int  # of forward, whose statistics are merged
    PARTS: int  # of the positions
    BIASED: bool
    ABSMAX_PROGRAMS: int


@triton.jit
def activity_kernel(
    pre,
    stats,
    x,
    act,
    prep,
    SIZE,
    M,
    scalars,
    G: tl.constexpr,
    C: tl.constexpr,
    F: tl.constexpr,
):
    """y of BN neurons in one of PARTS of the positions, laid out as u, and what it sums to.

    ``y_sums [PARTS, 2, K]`` are the sums of y and of y u. The first programs take the last
    positions: what forward wrote last is read first, while the cache may still hold it. Programs
    beyond those scale BM * BN values of x, if nobody has.
    """
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
            b_win, b_lse = load_statistics(stats, i_g, o_m, M, F.TILES, C)
            b_anti = b_win
            if C.RANKS:
                b_anti = tl.load(stats.anti + i_g * M + o_m, mask=o_m < M, other=-1)
            m_y = m
            if not C.SOFT:
                m_y = m & ((o_k[None, :] == b_win[:, None]) | (o_k[None, :] == b_anti[:, None]))
            b_u = load_u(pre, o, m_y, 0.0, True)
            b_y, b_p = store_activity(pre, act, o, m, b_u, o_k, b_win, b_anti, b_lse, scalars, C)
            b_ys += b_y
            b_yu += b_p
        store_sums(act.y_sums, i_s, i_g, o_k, b_ys, b_yu, F.BIASED, G)
    elif prep.x_absmax is not None:
        b_scale, _ = x_factor(prep, scalars, F.ABSMAX_PROGRAMS)
        store_factors(x, prep, b_scale, i - PROGRAMS, 1, SIZE, BM * BN)


@triton.jit
def store_activity(pre, act, o, m, b_u, o_k, b_win, b_anti, b_lse, scalars, C: tl.constexpr):
    """y of a tile of u ``[BM, BN]``, stored and scaled where it is a 16-bit factor of a float32
    layer; and y and y u as they are.

    Of hard competitions u may be anything where y is 0.
    """
    m_win = o_k[None, :] == b_win[:, None]
    m_anti = o_k[None, :] == b_anti[:, None]
    b_y = competition(b_u, m_win, m_anti, b_lse[:, None], scalars, C)
    Y_SCALE = 1.0 if act.y.dtype == pre.u.dtype else scalars.y_scale
    store_terms(act.y, act.y1, o, m, b_y * Y_SCALE)
    m_u = m if C.SOFT else m & (m_win | m_anti)
    return tl.where(m, b_y, 0.0), tl.where(m_u, b_y * b_u, 0.0)


@triton.jit
def finish_tile(
    pre,
    act,
    i_s,
    i_g,
    o_m,
    M,
    o_k,
    b_u,
    b_win,
    b_lse,
    scalars,
    BIASED: tl.constexpr,
    G: tl.constexpr,
    C: tl.constexpr,
):
    """y of positions ``o_m`` and neurons ``o_k``, and their part ``i_s`` of the sums."""
    m = (o_m < M)[:, None] & (o_k < G.K)[None, :]
    o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
    b_y, b_yu = store_activity(pre, act, o, m, b_u, o_k, b_win, b_win, b_lse, scalars, C)
    store_sums(act.y_sums, i_s, i_g, o_k, b_y, b_yu, BIASED, G)


@triton.jit
def store_sums(y_sums, i_s, i_g, o_k, b_y, b_yu, BIASED: tl.constexpr, G: tl.constexpr):
    """Part ``i_s`` of ``y_sums [PARTS, 2, K]``: those of the columns of y and y u ``[BM, BN]``.

    A layer without a bias has no use for those of y.
    """
    N: tl.constexpr = G.GROUPS * G.K
    o_s = y_sums + 2 * i_s * N + i_g * G.K + o_k
    if BIASED:
        tl.store(o_s, tl.sum(b_y, axis=0), mask=o_k < G.K)
    tl.store(o_s + N, tl.sum(b_yu, axis=0), mask=o_k < G.K)


def activity(
    x: Tensor, state: ForwardState, G: Geometry, c: CompetitionArgs, biased: bool
) -> Activity:
    """y, where forward left it: one launch."""
    M, prep = x.shape[0] * G.pixels, state.prep
    config, parts = configs.activity(G), configs.parts(G, M)
    act = new_activity(x, state.pre.u, G, parts)
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
        SIZE=size,
        M=M,
        scalars=c.scalars,
        G=G,
        C=c.flags,
        F=ActivityConstants(config.BM, config.BN, state.tiles, parts, biased, prep.absmax_programs),
    )
    return act
