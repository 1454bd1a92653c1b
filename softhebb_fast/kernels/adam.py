"""Adam's step on a linear classifier, with the gradient of its weights.

Source: Kingma & Ba 2015, algorithm 1.
"""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.sync import begin


@triton.jit(do_not_specialize=["STEP", "FIRST", "ROWS", "dropped"])
def descend_kernel(
    x,
    order,
    kept,
    gradient,
    w,
    w_mean,
    w_square,
    bias,
    bias_mean,
    bias_square,
    corrections,
    rate,
    clock,
    MEMBER,
    LINE,
    N,
    ROWS,
    STEP,
    FIRST,
    dropped,
    beta1,
    beta2,
    eps,
    F: tl.constexpr,
    CLASSES: tl.constexpr,
    PRECISION: tl.constexpr,
    BB: tl.constexpr,
    BC: tl.constexpr,
    BF: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """Adam's step on BF columns of the weights ``[E, CLASSES, F]``, the first also on the bias.

    ``corrections [STEPS, 2]`` are ``1 / (1 - beta1^t)`` and ``(1 - beta2^t)^-1/2`` of step t.
    """
    begin(OVERLAPS)
    i_f = tl.program_id(0)
    i_e = tl.program_id(1)
    o_f = i_f * BF + tl.arange(0, BF)
    o_c = tl.arange(0, BC)
    m_f = o_f < F
    b_g = tl.zeros((BC, BF), tl.float32)
    start = tl.load(clock + 1) + FIRST
    for i_b in range(0, ROWS, BB):
        o_b = i_b + tl.arange(0, BB)
        m_b = o_b < ROWS
        m = m_b[:, None] & m_f[None, :]
        b_row = tl.load(order + i_e * N + start + o_b, mask=m_b, other=0)
        o_x = i_e.to(tl.int64) * MEMBER + b_row * LINE
        b_x = tl.load(x + o_x[:, None] + o_f[None, :], mask=m, other=0.0).to(tl.float32)
        if kept is not None:
            o_k = (i_e * ROWS + o_b) * F
            b_kept = tl.load(kept + o_k[:, None] + o_f[None, :], mask=m, other=0) != 0
            b_x = tl.where(b_kept, b_x * (65536 / (65536 - dropped).to(tl.float32)), 0.0)
        o_g = (i_e * ROWS + o_b)[None, :] * BC + o_c[:, None]
        b_l = tl.load(gradient + o_g, mask=m_b[None, :], other=0.0)  # [BC, BB]
        b_g = tl.dot(b_l, b_x, b_g, input_precision=PRECISION)
    t = tl.load(clock) + STEP
    b_rate = tl.load(rate) * tl.load(corrections + 2 * t)
    b_root = tl.load(corrections + 2 * t + 1)
    o_w = ((i_e * CLASSES + o_c) * F)[:, None] + o_f[None, :]
    m_w = (o_c < CLASSES)[:, None] & m_f[None, :]
    adam(w, w_mean, w_square, o_w, m_w, b_g, b_rate, b_root, beta1, beta2, eps)
    if i_f == 0:
        b_b = tl.zeros((BC,), tl.float32)
        for i_b in range(0, ROWS, BB):
            o_b = i_b + tl.arange(0, BB)
            o_g = (i_e * ROWS + o_b)[:, None] * BC + o_c[None, :]
            b_b += tl.sum(tl.load(gradient + o_g, mask=(o_b < ROWS)[:, None], other=0.0), axis=0)
        o_n = i_e * CLASSES + o_c
        m_c = o_c < CLASSES
        adam(bias, bias_mean, bias_square, o_n, m_c, b_b, b_rate, b_root, beta1, beta2, eps)


@triton.jit
def adam(w, mean, square, o, m, b_g, b_rate, b_root, beta1, beta2, eps):
    """Step ``w`` down the gradient ``b_g``; its running mean and mean square go on."""
    b_mean = beta1 * tl.load(mean + o, mask=m, other=0.0) + (1 - beta1) * b_g
    b_square = beta2 * tl.load(square + o, mask=m, other=0.0) + (1 - beta2) * b_g * b_g
    b_step = b_rate * b_mean / (tl.sqrt(b_square) * b_root + eps)
    tl.store(mean + o, b_mean, mask=m)
    tl.store(square + o, b_square, mask=m)
    tl.store(w + o, tl.load(w + o, mask=m, other=0.0) - b_step, mask=m)
