"""Apply: D = yx - yu W, its largest magnitude, the rates, and the weights in place.

The largest |D| of the whole group is needed before any weight can change, hence two kernels.
"""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.epilogue import pool_tile
from softhebb_fast.kernels.tiles import contiguous_offsets, lebesgue, weight_offsets


@triton.jit
def project_kernel(
    yx,
    sums,
    w,
    yu,
    rate,
    largest,
    lr,
    lr_power,
    lebesgue_p,
    a,
    total,
    out,
    M,
    G: tl.constexpr,
    P: tl.constexpr,
    LEBESGUE: tl.constexpr,
    SPLITS: tl.constexpr,
    BS: tl.constexpr,
    BP: tl.constexpr,
    E: tl.constexpr,
    BLOCKS: tl.constexpr,
    PARTS: tl.constexpr,
    BY: tl.constexpr,
    BX: tl.constexpr,
    BN: tl.constexpr,
):
    """``project`` of every neuron; where E asks for it, programs beyond those pool (``pool_tile``).

    Neither needs the other: together they save a launch. Neurons come last to first, so that what
    the kernel before touched last, and may still be in the cache, is read first.
    """
    i = tl.program_id(0)
    if i < G.GROUPS * G.K:
        project(
            *(G.GROUPS * G.K - 1 - i, yx, sums, w, yu, rate, largest, lr, lr_power, lebesgue_p),
            *(G, P, LEBESGUE, SPLITS, BS, BP),
        )
    if E is not None:  # noqa: SIM102
        if i >= G.GROUPS * G.K:
            i_t = i - G.GROUPS * G.K
            pool_tile(i_t, a, total, out, M, G, E, BLOCKS, PARTS, BY, BX, BN)


@triton.jit
def pool_kernel(
    a,
    total,
    out,
    M,
    G: tl.constexpr,
    E: tl.constexpr,
    BLOCKS: tl.constexpr,
    PARTS: tl.constexpr,
    BY: tl.constexpr,
    BX: tl.constexpr,
    BN: tl.constexpr,
):
    """``pool_tile`` alone, for a block that does not learn."""
    pool_tile(tl.program_id(0), a, total, out, M, G, E, BLOCKS, PARTS, BY, BX, BN)


@triton.jit
def project(
    i_n,
    yx,
    sums,
    w,
    yu,
    rate,
    largest,
    lr,
    lr_power,
    lebesgue_p,
    G: tl.constexpr,
    P: tl.constexpr,
    LEBESGUE: tl.constexpr,
    SPLITS: tl.constexpr,
    BS: tl.constexpr,
    BP: tl.constexpr,
):
    """One neuron: its SPLITS of yx summed in place, in their order; its yu, its rate, its max |D|.

    The rate, if asked, comes from the norm of the weights as they are. ``largest [GROUPS]`` takes
    the bits of |D|: as integers they rank alike, NaN above all, and a maximum has no order.
    """
    i_g = i_n // G.K
    N: tl.constexpr = G.GROUPS * G.K
    b_yx, b_w, b_dot, b_norm, m = row(
        0, i_n, i_g, yx, w, lebesgue_p, G, P, LEBESGUE, SPLITS, BS, BP
    )
    for i_p in range(BP, P, BP):
        _, _, b_d, b_n, _ = row(i_p, i_n, i_g, yx, w, lebesgue_p, G, P, LEBESGUE, SPLITS, BS, BP)
        b_dot += b_d
        b_norm += b_n
    if sums is not None:
        o_s = tl.arange(0, triton.next_power_of_2(SPLITS))
        b_s = tl.load(sums + (2 * o_s + 1) * N + i_n, mask=o_s < SPLITS, other=0.0)
        b_dot = tl.sum(b_s)
    tl.store(yu + i_n, b_dot)
    if rate is not None:
        b_norm = tl.exp2(tl.log2(b_norm) / lebesgue_p) if LEBESGUE else tl.sqrt(b_norm)
        b_rate = lr * tl.exp2(lr_power * tl.log2(tl.abs(b_norm - 1.0) + 1e-10))
        tl.store(rate + i_n, b_rate)
    b_max = magnitude(b_yx, b_w, b_dot, m)
    tl.debug_barrier()
    for i_p in range(BP, P, BP):
        b_yx, b_w, _, _, m = row(i_p, i_n, i_g, yx, w, lebesgue_p, G, P, False, 1, 1, BP)
        b_max = tl.maximum(b_max, magnitude(b_yx, b_w, b_dot, m))
    tl.atomic_max(largest + i_g, tl.max(b_max))


@triton.jit
def row(
    i_p,
    i_n,
    i_g,
    yx,
    w,
    lebesgue_p,
    G: tl.constexpr,
    P: tl.constexpr,
    LEBESGUE: tl.constexpr,
    SPLITS: tl.constexpr,
    BS: tl.constexpr,
    BP: tl.constexpr,
):
    """Elements from ``i_p`` on of neuron ``i_n``: yx, W, their product, the norm's sum, the mask.

    ``[1, BP]``; the SPLITS of yx are summed and the sum kept in the first.
    """
    o_s = tl.arange(0, BS)
    o_n = i_n.to(tl.int64) * P
    o_p = i_p + tl.arange(0, BP)
    o_w, m = weight_offsets(i_g, i_n % G.K + tl.arange(0, 1), o_p, G, P)
    b_yx = tl.zeros((1, BP), tl.float32)
    for i_s in range(0, SPLITS, BS):
        o = (i_s + o_s).to(tl.int64)[:, None] * (G.GROUPS * G.K * P) + o_n + o_p[None, :]
        b_s = tl.load(yx + o, mask=m & (i_s + o_s < SPLITS)[:, None], other=0.0)  # [BS, BP]
        b_yx += tl.sum(b_s, axis=0)[None, :]
    if SPLITS > 1:
        tl.store(yx + o_n + o_p[None, :], b_yx, mask=m)
    b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32)
    b_l = lebesgue(b_w, lebesgue_p, LEBESGUE)
    return b_yx, b_w, tl.sum(b_l * b_yx), tl.sum(tl.abs(b_l * b_w)), m


@triton.jit
def magnitude(b_yx, b_w, b_dot, m):
    """The bits of |D|, 0 outside the row."""
    b_d = tl.abs(b_yx - b_dot * b_w)
    return tl.where(m, b_d.to(tl.int32, bitcast=True), 0)


@triton.jit
def apply_kernel(
    yx,
    sums,
    w,
    bias,
    yu,
    rate,
    largest,
    delta,
    bias_delta,
    M,
    scale,
    G: tl.constexpr,
    P: tl.constexpr,
    SPLITS: tl.constexpr,
    BN: tl.constexpr,
    BP: tl.constexpr,
):
    """``D / max |D|`` into ``delta`` or, where that is None, times the rate onto the weights.

    Neurons come first to last, against the kernel before.
    """
    i_p = tl.program_id(0)
    i_n = tl.program_id(1)
    i_g = tl.program_id(2)
    b_max = tl.load(largest + i_g).to(tl.float32, bitcast=True)
    o_k = i_n * BN + tl.arange(0, BN)
    o_p = i_p * BP + tl.arange(0, BP)
    o_n = i_g * G.K + o_k
    o_w, m = weight_offsets(i_g, o_k, o_p, G, P)
    o = (o_n.to(tl.int64) * P)[:, None] + o_p[None, :]
    b_yu = tl.load(yu + o_n, mask=o_k < G.K, other=0.0)
    b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32)
    b_d = tl.load(yx + o, mask=m, other=0.0) - b_yu[:, None] * b_w
    b_d = b_d / (b_max + 1e-30)
    if delta is None:
        b_rate = tl.load(rate + o_n, mask=o_k < G.K, other=0.0)
        tl.store(w + o_w, (b_w + b_rate[:, None] * b_d).to(w.dtype.element_ty), mask=m)
    else:
        o = contiguous_offsets(i_g, o_k, o_p, G, P)
        tl.store(delta + o, b_d.to(delta.dtype.element_ty), mask=m)
    if bias_delta is not None:  # noqa: SIM102
        if (i_n == 0) & (i_p == 0) & (i_g == 0):
            bias_change(sums, bias, bias_delta, M, scale, G.GROUPS * G.K, SPLITS)


@triton.jit
def bias_change(sums, bias, bias_delta, M, scale, N: tl.constexpr, SPLITS: tl.constexpr):
    """``(sum y - e^(t b) M) / e^(t b)``, divided by its largest magnitude."""
    o_n = tl.arange(0, triton.next_power_of_2(N))
    m_n = o_n < N
    b_ys = tl.zeros(o_n.shape, tl.float32)
    for i_s in range(SPLITS):
        b_ys += tl.load(sums + 2 * i_s * N + o_n, mask=m_n, other=0.0)
    b_prior = tl.exp2(scale * tl.load(bias + o_n, mask=m_n, other=0.0).to(tl.float32))
    b_d = tl.where(m_n, (b_ys - b_prior * M) / b_prior, 0.0)
    b_d = b_d / (tl.max(tl.abs(b_d)) + 1e-30)
    tl.store(bias_delta + o_n, b_d.to(bias_delta.dtype.element_ty), mask=m_n)
