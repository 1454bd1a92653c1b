"""Plasticity: yx = sum over positions of y x, y rebuilt from u, log-sum-exp and winner."""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.tiles import (
    competition,
    load_patches,
    load_statistics,
    load_u,
    u_offsets,
)


@triton.jit
def plasticity_kernel(
    x,
    u,
    u_low,
    top,
    win,
    anti,
    lse,
    yx,
    sums,
    largest,
    M,
    scale,
    delta,
    G: tl.constexpr,
    P: tl.constexpr,
    WTA: tl.constexpr,
    OVERWRITE: tl.constexpr,
    TILES: tl.constexpr,
    SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
    TURNED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BP: tl.constexpr,
):
    """A tile of yx ``[BN, BP]`` over one of SPLITS parts of the positions: yx ``[SPLITS, K, P]``.

    ``sums [SPLITS, 2, K]``, if asked, are the sums of y and of y u over that part. ``largest``
    is cleared for the kernel that comes next. All programs walk backwards together, their parts in
    turn: what forward wrote last of u may still be in the cache.
    """
    HARD: tl.constexpr = WTA == "hard" or WTA == "hard_anti"
    COLUMNS: tl.constexpr = (P + BP - 1) // BP
    i_k = tl.program_id(0) // COLUMNS
    i_p = tl.program_id(0) % COLUMNS
    i_s = tl.program_id(1)
    i_g = tl.program_id(2)
    o_k = i_k * BN + tl.arange(0, BN)
    o_p = i_p * BP + tl.arange(0, BP)
    m_k = o_k < G.K
    b_yx = tl.zeros((BN, BP), tl.float32)
    b_ys = tl.zeros((BN,), tl.float32)
    b_yu = tl.zeros((BN,), tl.float32)
    TOGETHER: tl.constexpr = 1 if SPLITS == 1 else 4
    STEPS = tl.cdiv(M, BM)
    for i in range(0, tl.cdiv(tl.cdiv(STEPS, TOGETHER) - i_s, SPLITS) * TOGETHER):
        i_t = (i // TOGETHER * SPLITS + i_s) * TOGETHER + i % TOGETHER
        i_m = tl.where(i_t < STEPS, STEPS - 1 - i_t, STEPS)
        o_m = tl.multiple_of(i_m * BM, BM) + tl.arange(0, BM)
        m_m = o_m < M
        b_win, b_lse = load_statistics(top, win, lse, i_g, o_m, M, TILES, HARD)
        m_win = o_k[:, None] == b_win[None, :]
        m_anti = m_win
        if WTA == "hard_anti":
            b_anti = tl.load(anti + i_g * M + o_m, mask=m_m, other=-1)
            m_anti = o_k[:, None] == b_anti[None, :]
        b_u = 0.0
        if not HARD or sums is not None:
            o_u = u_offsets(i_g, o_m[None, :], o_k[:, None], G)
            b_u = load_u(u, u_low, o_u, m_k[:, None] & m_m[None, :], 0.0)  # [BN, BM]
        b_y = competition(b_u, m_win, m_anti, b_lse[None, :], scale, delta, WTA, OVERWRITE)
        if sums is not None:
            b_ys += tl.sum(b_y, axis=1)
            b_yu += tl.sum(b_y * b_u, axis=1)
        b_x = load_patches(x, i_g, o_m, M, i_p * BP, G, P, BP, TURNED)  # [BM, BP]
        b_yx = tl.dot(b_y.to(b_x.dtype), b_x, b_yx, input_precision=PRECISION)
    if (tl.program_id(0) == 0) & (i_s == 0):
        tl.store(largest + i_g, 0)
    o_n = i_g * G.K + o_k
    o_s = i_s.to(tl.int64) * (G.GROUPS * G.K)
    o = ((o_s + o_n) * P)[:, None] + o_p[None, :]
    tl.store(yx + o, b_yx, mask=m_k[:, None] & (o_p < P)[None, :])
    if sums is not None:  # noqa: SIM102
        if i_p == 0:
            tl.store(sums + 2 * o_s + o_n, b_ys, mask=m_k)
            tl.store(sums + 2 * o_s + G.GROUPS * G.K + o_n, b_yu, mask=m_k)
