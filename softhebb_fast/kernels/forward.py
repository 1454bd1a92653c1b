"""Forward: u = <x_p, W_k> as an implicit product of matrices, with winner and log-sum-exp."""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.epilogue import block_positions, store_blocks
from softhebb_fast.kernels.scale import store_maximum
from softhebb_fast.kernels.tiles import (
    lebesgue,
    load_filters,
    load_patches,
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
    SIZE,
    M,
    scale,
    lebesgue_p,
    G: tl.constexpr,
    E: tl.constexpr,
    WHOLE: tl.constexpr,
    P: tl.constexpr,
    LEBESGUE: tl.constexpr,
    COMPETE: tl.constexpr,
    PRECISION: tl.constexpr,
    TURNED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BP: tl.constexpr,
    FILTERS_ONCE: tl.constexpr,
    MAXIMA: tl.constexpr,
    DENSE: tl.constexpr,
):
    """A tile of u ``[BM, BN]`` and, if asked, its statistics ``[GROUPS, TILES, M]``.

    Programs that share filters are neighbours with FILTERS_ONCE, else those that share patches: one
    of the two comes from memory once. ``total``, if given, takes the sums of u over neurons, and
    ``u`` may be None. With E all neurons are in one tile, which is pooled into ``out``, see
    ``store_blocks``. The first MAXIMA programs of all find the ``maxima`` of x instead.
    """
    i = tl.program_id(0) - MAXIMA
    if MAXIMA > 0:  # noqa: SIM102
        if i < 0:
            if tl.program_id(1) == 0:
                store_maximum(x, maxima, i + MAXIMA, SIZE, G, DENSE, MAXIMA, 2048)
            return
    TILES: tl.constexpr = (G.K + BN - 1) // BN
    if FILTERS_ONCE:
        i_m = i % tl.cdiv(M, BM)
        i_n = i // tl.cdiv(M, BM)
    else:
        i_m = i // TILES
        i_n = i % TILES
    i_g = tl.program_id(1)
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
            if u_low is not None:
                b_l = (b_e - b_w.to(tl.float32)).to(b_x.dtype)
                b_u = tl.dot(b_x, tl.trans(b_l), b_u, input_precision=PRECISION)
        b_u = tl.dot(b_x, tl.trans(b_w), b_u, input_precision=PRECISION)
    m_k = o_k < G.K
    if bias is not None:
        b_b = tl.load(bias + i_g * G.K + o_k, mask=m_k, other=0.0)
        b_u += b_b.to(tl.float32)[None, :]
    m = (o_m < M)[:, None] & m_k[None, :]
    if u is not None:
        store_u(u, u_low, u_offsets(i_g, o_m[:, None], o_k[None, :], G), m, b_u)
    if E is not None:
        store_blocks(out, b_u, o, o_m, o_k, M, G, E, WHOLE)
    o = (i_g * TILES + i_n) * M + o_m
    if total is not None:
        b_total = tl.sum(tl.where(m_k[None, :], b_u, 0.0), axis=1)
        tl.store(total + o, b_total, mask=o_m < M)
    if COMPETE:
        b_u = tl.where(m_k[None, :], b_u, -float("inf"))
        b_top, b_win, b_lse = statistics(b_u, scale)
        tl.store(win + o, b_win + i_n * BN, mask=o_m < M)
        tl.store(lse + o, b_lse, mask=o_m < M)
        if TILES > 1:
            tl.store(top + o, b_top, mask=o_m < M)
