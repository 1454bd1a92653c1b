"""Activity: y from u and the statistics of its tiles, once for all who need it.

Plasticity needs a value of y for every column of its tiles. Where matrix units take 16-bit factors
as they lie in memory but want those of 32 bits turned, a float32 factor is a sum of bfloat16 terms,
each the rounded rest of those before: two give 16 bits of it, three all 24.
"""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.tiles import competition, load_statistics, load_u, u_offsets


@triton.jit
def activity_kernel(
    u,
    u_low,
    top,
    win,
    anti,
    lse,
    y,
    y1,
    y2,
    x,
    x0,
    x1,
    x2,
    SIZE,
    M,
    scale,
    delta,
    G: tl.constexpr,
    WTA: tl.constexpr,
    OVERWRITE: tl.constexpr,
    TILES: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """A tile ``[BM, BN]`` of y, laid out as u; programs beyond those split BM * BN values of x."""
    COLUMNS: tl.constexpr = (G.K + BN - 1) // BN
    PROGRAMS = tl.cdiv(M, BM) * COLUMNS * G.GROUPS
    i = tl.program_id(0)
    if i < PROGRAMS:
        HARD: tl.constexpr = WTA == "hard" or WTA == "hard_anti"
        i_g = i // COLUMNS % G.GROUPS
        o_m = i // (COLUMNS * G.GROUPS) * BM + tl.arange(0, BM)
        o_k = i % COLUMNS * BN + tl.arange(0, BN)
        m = (o_m < M)[:, None] & (o_k < G.K)[None, :]
        o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
        b_win, b_lse = load_statistics(top, win, lse, i_g, o_m, M, TILES, HARD)
        m_win = o_k[None, :] == b_win[:, None]
        m_anti = m_win
        if WTA == "hard_anti":
            b_anti = tl.load(anti + i_g * M + o_m, mask=o_m < M, other=-1)
            m_anti = o_k[None, :] == b_anti[:, None]
        b_u = 0.0
        if not HARD:
            b_u = load_u(u, u_low, o, m, 0.0)
        b_y = competition(b_u, m_win, m_anti, b_lse[:, None], scale, delta, WTA, OVERWRITE)
        store_terms(y, y1, y2, o, m, b_y)
    elif x0 is not None:
        o_x = (i - PROGRAMS).to(tl.int64) * (BM * BN) + tl.arange(0, BM * BN)
        b_x = tl.load(x + o_x, mask=o_x < SIZE, other=0.0)
        store_terms(x0, x1, x2, o_x, o_x < SIZE, b_x)


@triton.jit
def store_terms(t, t1, t2, o, m, b):
    """``b`` in the dtype of ``t``, and what that left over in ``t1`` and ``t2``, if they are given.

    What infinity leaves over is nothing.
    """
    b_t = b.to(t.dtype.element_ty)
    tl.store(t + o, b_t, mask=m)
    if t1 is not None:
        b = tl.where(tl.abs(b) < float("inf"), b - b_t.to(tl.float32), 0.0)
        b_t = b.to(t.dtype.element_ty)
        tl.store(t1 + o, b_t, mask=m)
        if t2 is not None:
            tl.store(t2 + o, (b - b_t.to(tl.float32)).to(t.dtype.element_ty), mask=m)
