"""Apply: D = yx - yu W, its largest magnitude, the rates, and the weights in place.

The largest |D| of the whole group is needed before any weight can change, hence two kernels.
"""

from __future__ import annotations

import triton
import triton.language as tl

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
    G: tl.constexpr,
    P: tl.constexpr,
    LEBESGUE: tl.constexpr,
    SPLITS: tl.constexpr,
    BN: tl.constexpr,
    BP: tl.constexpr,
):
    """Sum the SPLITS of yx in place, in their order; yu ``[K]``, largest |D| a program.

    The rates ``[K]``, if asked, come from the norms of the weights as they are.
    """
    i_n = tl.program_id(0)
    i_g = tl.program_id(1)
    o_k = i_n * BN + tl.arange(0, BN)
    o_n = i_g * G.K + o_k
    m_k = o_k < G.K
    N: tl.constexpr = G.GROUPS * G.K
    b_dot = tl.zeros((BN,), tl.float32)
    b_norm = tl.zeros((BN,), tl.float32)
    for i_p in range(0, P, BP):
        o_p = i_p + tl.arange(0, BP)
        o_w, m = weight_offsets(i_g, o_k, o_p, G, P)
        o = (o_n.to(tl.int64) * P)[:, None] + o_p[None, :]
        b_yx = tl.load(yx + o, mask=m, other=0.0)  # [BN, BP]
        o_s = o
        for _ in range(1, SPLITS):
            o_s += N * P
            b_yx += tl.load(yx + o_s, mask=m, other=0.0)
        if SPLITS > 1:
            tl.store(yx + o, b_yx, mask=m)
        b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32)
        b_l = lebesgue(b_w, lebesgue_p, LEBESGUE)
        b_dot += tl.sum(b_l * b_yx, axis=1)
        b_norm += tl.sum(tl.abs(b_l * b_w), axis=1)
    if sums is not None:
        b_dot = tl.zeros((BN,), tl.float32)
        for i_s in range(SPLITS):
            b_dot += tl.load(sums + (2 * i_s + 1) * N + o_n, mask=m_k, other=0.0)
    tl.store(yu + o_n, b_dot, mask=m_k)
    if rate is not None:
        b_norm = tl.exp2(tl.log2(b_norm) / lebesgue_p) if LEBESGUE else tl.sqrt(b_norm)
        b_rate = lr * tl.exp2(lr_power * tl.log2(tl.abs(b_norm - 1.0) + 1e-10))
        tl.store(rate + o_n, b_rate, mask=m_k)
    tl.debug_barrier()
    b_max = tl.zeros((BN, BP), tl.float32)
    for i_p in range(0, P, BP):
        o_p = i_p + tl.arange(0, BP)
        o_w, m = weight_offsets(i_g, o_k, o_p, G, P)
        o = (o_n.to(tl.int64) * P)[:, None] + o_p[None, :]
        b_yx = tl.load(yx + o, mask=m, other=0.0)
        b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32)
        b_max = tl.maximum(b_max, tl.abs(b_yx - b_dot[:, None] * b_w))
    tl.store(largest + i_g * tl.num_programs(0) + i_n, tl.max(b_max))


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
    PARTS: tl.constexpr,
    BN: tl.constexpr,
    BP: tl.constexpr,
):
    """``D / max |D|`` into ``delta`` or, where that is None, times the rate onto the weights."""
    i_n = tl.program_id(0)
    i_p = tl.program_id(1)
    i_g = tl.program_id(2)
    o_t = tl.arange(0, triton.next_power_of_2(PARTS))
    b_max = tl.max(tl.load(largest + i_g * PARTS + o_t, mask=o_t < PARTS, other=0.0))
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
