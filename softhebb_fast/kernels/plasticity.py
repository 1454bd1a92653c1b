"""Plasticity: yx = sum over positions of y x, an implicit product of matrices."""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.tiles import load_patches, load_u, u_offsets


@triton.jit
def plasticity_kernel(
    x,
    x1,
    x2,
    y,
    y1,
    y2,
    u,
    u_low,
    yx,
    sums,
    largest,
    M,
    G: tl.constexpr,
    P: tl.constexpr,
    SPLITS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BP: tl.constexpr,
):
    """A tile of yx ``[BN, BP]`` over one of SPLITS parts of the positions: yx ``[SPLITS, K, P]``.

    x and y are sums of as many terms as are given, see ``activity_kernel``; products as small as
    what the last terms left out are left out too. ``sums [SPLITS, 2, K]``, if asked, are the sums
    of y and of y u over that part; else u is not given. ``largest`` is cleared for the kernel that
    comes next.
    """
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
    RANGE = tl.cdiv(tl.cdiv(M, BM), SPLITS) * BM
    for i_m in range(i_s * RANGE, tl.minimum((i_s + 1) * RANGE, M), BM):
        o_m = tl.multiple_of(i_m, BM) + tl.arange(0, BM)
        m = (o_m < M)[:, None] & m_k[None, :]
        o_y = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
        b_y = tl.load(y + o_y, mask=m, other=0.0)  # [BM, BN]
        b_x = load_patches(x, i_g, o_m, M, i_p * BP, G, P, BP)  # [BM, BP]
        b_all = b_y.to(tl.float32)
        if y1 is not None:
            b_y1 = tl.load(y1 + o_y, mask=m, other=0.0)
            b_x1 = load_patches(x1, i_g, o_m, M, i_p * BP, G, P, BP)
            b_all += b_y1.to(tl.float32)
            if y2 is not None:
                b_y2 = tl.load(y2 + o_y, mask=m, other=0.0)
                b_x2 = load_patches(x2, i_g, o_m, M, i_p * BP, G, P, BP)
                b_all += b_y2.to(tl.float32)
                b_yx = tl.dot(tl.trans(b_y2), b_x, b_yx)
                b_yx = tl.dot(tl.trans(b_y1), b_x1, b_yx)
                b_yx = tl.dot(tl.trans(b_y), b_x2, b_yx)
            b_yx = tl.dot(tl.trans(b_y1), b_x, b_yx)
            b_yx = tl.dot(tl.trans(b_y), b_x1, b_yx)
        b_yx = tl.dot(tl.trans(b_y), b_x, b_yx, input_precision="ieee")
        if sums is not None:
            b_ys += tl.sum(b_all, axis=0)
            b_yu += tl.sum(b_all * load_u(u, u_low, o_y, m, 0.0), axis=0)
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
