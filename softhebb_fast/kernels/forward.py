"""Forward: u = <x_p, W_k> as an implicit product of matrices, with winner, log-sum-exp and y.

y of a tile needs the statistics of all tiles of its positions. Programs that share positions are
neighbours, run at a time and leave their statistics to each other: none reads u again.
"""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.activity import store_activity, store_factors, store_sums
from softhebb_fast.kernels.epilogue import block_positions, store_blocks
from softhebb_fast.kernels.float16_scale import store_maximum
from softhebb_fast.kernels.sync import arrive, clear, wait
from softhebb_fast.kernels.tiles import (
    lebesgue,
    load_filters,
    load_patches,
    load_statistics,
    load_u,
    statistics,
    store_u,
    u_offsets,
)


@triton.jit
def forward_kernel(
    x,
    w,
    bias,
    u,
    u_low,
    total,
    out,
    top,
    win,
    lse,
    maxima,
    y,
    y1,
    x0,
    x1,
    sums,
    largest,
    arrived,
    awaited,
    SIZE,
    SPAN,
    M,
    scale,
    delta,
    y_scale,
    lebesgue_p,
    G: tl.constexpr,
    E: tl.constexpr,
    WHOLE: tl.constexpr,
    P: tl.constexpr,
    LEBESGUE: tl.constexpr,
    COMPETE: tl.constexpr,
    WTA: tl.constexpr,
    OVERWRITE: tl.constexpr,
    PRECISION: tl.constexpr,
    TURNED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BP: tl.constexpr,
    FILTERS_ONCE: tl.constexpr,
    MAXIMA: tl.constexpr,
    DENSE: tl.constexpr,
    COUNTERS: tl.constexpr,
    HELD: tl.constexpr,
):
    """A tile of u ``[BM, BN]`` and, if asked, its statistics ``[GROUPS, TILES, M]``.

    Programs that share filters are neighbours with FILTERS_ONCE, else those that share patches: one
    of the two comes from memory once. ``total``, if given, takes the sums of u over neurons, and
    ``u`` may be None. With E all neurons are in one tile, which is pooled into ``out``, see
    ``store_blocks``. The first MAXIMA programs of all find the ``maxima`` of x instead.

    With ``y`` the program does the work of ``activity_kernel`` for its tile: those of the same
    positions count themselves in ``awaited[1:]``, one counter a row of tiles, and those that find
    maxima in ``awaited[0]``. After each row of tiles comes a program that waits for the latter and
    scales a share of x. A tile that is not HELD, as registers hold no more than u, is read back.
    """
    TILES: tl.constexpr = (G.K + BN - 1) // BN
    ROWS = tl.cdiv(M, BM)
    i = tl.program_id(0) - MAXIMA
    i_g = tl.program_id(1)
    if MAXIMA > 0:  # noqa: SIM102
        if i < 0:
            if i_g == 0:
                store_maximum(x, maxima, i + MAXIMA, SIZE, G, DENSE, MAXIMA, 2048)
                if x0 is not None:
                    arrive(awaited)
            return
    if FILTERS_ONCE:
        i_m = i % ROWS
        i_n = i // ROWS
    else:
        ABREAST: tl.constexpr = TILES if x0 is None else TILES + 1
        i_m = i // ABREAST
        i_n = i % ABREAST
    if x0 is not None:  # noqa: SIM102
        if i_n == TILES:
            if i_g == 0:
                wait(awaited, MAXIMA)
                RANGE = tl.cdiv(tl.cdiv(SPAN, 2048), ROWS)
                for j in range(i_m * RANGE, (i_m + 1) * RANGE):
                    store_factors(x, x0, x1, maxima, j, SPAN, MAXIMA, 2048)
            return
    o = i_m * BM + tl.arange(0, BM)
    o_m = o if E is None else block_positions(o, M, G, E)
    o_k = i_n * BN + tl.arange(0, BN)
    b_u = tl.zeros((BM, BN), tl.float32)
    for i_p in range(0, P, BP):
        b_w = load_filters(w, i_g, o_k, i_p, G, P, BP, TURNED)  # [BN, BP]
        b_x = load_patches(x, i_g, o_m, M, i_p, G, P, BP)  # [BM, BP]
        if LEBESGUE:  # in 16 bits the power needs a second term, as u does
            b_e = lebesgue(b_w, lebesgue_p, LEBESGUE)
            b_w = b_e.to(b_x.dtype)
            if b_x.dtype != tl.float32 and (COMPETE or u_low is not None):
                b_l = (b_e - b_w.to(tl.float32)).to(b_x.dtype)
                b_u = tl.dot(b_x, tl.trans(b_l), b_u, input_precision=PRECISION)
        b_u = tl.dot(b_x, tl.trans(b_w), b_u, input_precision=PRECISION)
    m_k = o_k < G.K
    if bias is not None:
        b_b = tl.load(bias + i_g * G.K + o_k, mask=m_k, other=0.0)
        b_u += b_b.to(tl.float32)[None, :]
    m = (o_m < M)[:, None] & m_k[None, :]
    o_u = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
    o_s = (i_g * TILES + i_n) * M + o_m
    if u is not None:  # noqa: SIM102
        if not HELD:
            store_u(u, u_low, o_u, m, b_u)
    if COMPETE:
        b_top, b_win, b_lse = statistics(tl.where(m_k[None, :], b_u, -float("inf")), scale)
        b_win += i_n * BN
        if TILES > 1 or y is None:
            tl.store(win + o_s, b_win, mask=o_m < M)
            tl.store(lse + o_s, b_lse, mask=o_m < M)
        if TILES > 1:
            tl.store(top + o_s, b_top, mask=o_m < M)
            if y is not None:
                arrive(awaited + 1 + i_g * ROWS + i_m)
    if HELD:
        store_u(u, u_low, o_u, m, b_u, True)
    if E is not None:
        store_blocks(out, b_u, o, o_m, o_k, M, G, E, WHOLE)
    if total is not None:
        b_total = tl.sum(tl.where(m_k[None, :], b_u, 0.0), axis=1)
        tl.store(total + o_s, b_total, mask=o_m < M)
    if y is not None:
        if (i == 0) & (i_g == 0):
            clear(largest, G.GROUPS)
            if arrived is not None:
                clear(arrived, COUNTERS)
        if TILES > 1:
            HARD: tl.constexpr = WTA == "hard"
            wait(awaited + 1 + i_g * ROWS + i_m, TILES)
            b_win, b_lse = load_statistics(top, win, lse, i_g, o_m, M, TILES, HARD)
        Y_SCALE = 1.0 if x0 is None else y_scale
        if HELD:
            finish_tile(
                *(y, y1, sums, i_m, i_g, o_m, M, o_k, b_u, b_win, b_lse, scale, delta, Y_SCALE),
                *(WTA, OVERWRITE, bias is not None, G),
            )
        else:
            tl.debug_barrier()
            AT_ONCE: tl.constexpr = min(BN, 64)
            for i_k in range(i_n * BN, (i_n + 1) * BN, AT_ONCE):
                o_n = i_k + tl.arange(0, AT_ONCE)
                o_y = u_offsets(i_g, o_m[:, None], o_n[None, :], G)
                b_v = load_u(u, u_low, o_y, (o_m < M)[:, None] & (o_n < G.K)[None, :], 0.0, True)
                finish_tile(
                    *(y, y1, sums, i_m, i_g, o_m, M, o_n, b_v, b_win, b_lse, scale, delta, Y_SCALE),
                    *(WTA, OVERWRITE, bias is not None, G),
                )


@triton.jit
def finish_tile(
    y,
    y1,
    sums,
    i_s,
    i_g,
    o_m,
    M,
    o_k,
    b_u,
    b_win,
    b_lse,
    scale,
    delta,
    y_scale,
    WTA: tl.constexpr,
    OVERWRITE: tl.constexpr,
    BIASED: tl.constexpr,
    G: tl.constexpr,
):
    """y of positions ``o_m`` and neurons ``o_k``, and their part ``i_s`` of the sums."""
    m = (o_m < M)[:, None] & (o_k < G.K)[None, :]
    o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
    b_y, b_yu = store_activity(
        *(y, y1, o, m, b_u, o_k, b_win, b_win, b_lse, scale, delta, y_scale, WTA, OVERWRITE)
    )
    store_sums(sums, i_s, i_g, o_k, b_y, b_yu, BIASED, G)
