"""Logits of a linear classifier, their softmax cross-entropy and its gradient, and a test.

Source: Salmon et al. 2011 (Philox, for the dropout mask).
"""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.sync import begin, is_last

PARTS = tl.constexpr(8)  # whose loads do not wait for each other


@triton.jit(do_not_specialize=["STEP", "FIRST", "ROWS", "dropped"])
def classify_kernel(
    x,
    order,
    labels,
    w,
    bias,
    seeds,
    clock,
    kept,
    parts,
    gradient,
    totals,
    split_counters,
    MEMBER,
    LINE,
    N,
    ROWS,
    STEP,
    FIRST,
    dropped,
    F: tl.constexpr,
    CLASSES: tl.constexpr,
    PRECISION: tl.constexpr,
    CHUNKS: tl.constexpr,
    GROUPS: tl.constexpr,
    BB: tl.constexpr,
    BC: tl.constexpr,
    BF: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """Logits of BB rows from one of CHUNKS parts of the features, of ``8 BF`` each.

    The last program of the rows sums the parts ``[E, CHUNKS, ROWS, BC]`` in their order and leaves
    the loss's gradient ``[E, ROWS, BC]`` by the logits, and its share of ``totals [E, GROUPS, 2]``:
    loss and correct answers, summed over steps. ``kept [E, ROWS, F]``, if given, is the dropout
    mask that it draws: of 65536 values of 16 bits the first ``dropped`` are dropped.
    """
    begin(OVERLAPS)
    i_f = tl.program_id(0)
    i_b = tl.program_id(1)
    i_e = tl.program_id(2)
    o_b = i_b * BB + tl.arange(0, BB)
    o_c = tl.arange(0, BC)
    m_b = o_b < ROWS
    m_c = o_c < CLASSES
    b_row = tl.load(order + i_e * N + tl.load(clock + 1) + FIRST + o_b, mask=m_b, other=0)
    o_x = i_e.to(tl.int64) * MEMBER + b_row * LINE
    if kept is not None:
        o_i = i_f * BF + tl.arange(0, BF)[None, :] + tl.zeros((BB, 1), tl.int32)
        b_step = tl.load(clock) + STEP + o_i * 0
        bits = tl.philox(tl.load(seeds + i_e), o_i, o_b[:, None] + o_i * 0, b_step, o_i * 0)
        b_scale = 65536 / (65536 - dropped).to(tl.float32)
    b_l = tl.zeros((BB, BC), tl.float32)
    for j in tl.static_range(8):
        o_f = (8 * i_f + j) * BF + tl.arange(0, BF)
        m = m_b[:, None] & (o_f < F)[None, :]
        b_x = tl.load(x + o_x[:, None] + o_f[None, :], mask=m, other=0.0).to(tl.float32)
        if kept is not None:
            b_kept = ((bits[j // 2] >> (16 * (j % 2))) & 0xFFFF).to(tl.int32) >= dropped
            o_k = (i_e * ROWS + o_b) * F
            tl.store(kept + o_k[:, None] + o_f[None, :], b_kept.to(tl.int8), mask=m)
            b_x = tl.where(b_kept, b_x * b_scale, 0.0)
        o_w = (i_e * CLASSES + o_c) * F
        m_w = m_c[None, :] & (o_f < F)[:, None]
        b_w = tl.load(w + o_w[None, :] + o_f[:, None], mask=m_w, other=0.0)
        b_l = tl.dot(b_x, b_w, b_l, input_precision=PRECISION)
    o_l = (i_e * CHUNKS * ROWS + o_b)[:, None] * BC + o_c[None, :]
    tl.store(parts + i_f * ROWS * BC + o_l, b_l, mask=m_b[:, None])
    i_t = i_e * GROUPS + i_b
    if is_last(split_counters + i_t, CHUNKS):
        tl.store(split_counters + i_t, 0)
        b_l = tl.zeros((BB, BC), tl.float32)
        for i in range(0, CHUNKS, PARTS):
            o_p = (i + tl.arange(0, PARTS))[:, None, None]
            m_p = (o_p < CHUNKS) & m_b[None, :, None]
            o = o_p * ROWS * BC + o_l[None, :, :]
            b_l += tl.sum(tl.load(parts + o, mask=m_p, other=0.0, cache_modifier=".cg"), axis=0)
        b_label = tl.load(labels + b_row, mask=m_b, other=0).to(tl.int32)
        b_p, b_loss, b_correct = softmax_loss(b_l, bias, b_label, i_e, o_c, CLASSES)
        b_g = (b_p - tl.where(o_c[None, :] == b_label[:, None], 1.0, 0.0)) / ROWS
        tl.store(gradient + (i_e * ROWS + o_b)[:, None] * BC + o_c[None, :], b_g, mask=m_b[:, None])
        b_loss = tl.sum(tl.where(m_b, b_loss, 0.0).to(tl.float64))
        b_correct = tl.sum(tl.where(m_b & b_correct, 1.0, 0.0).to(tl.float64))
        tl.store(totals + 2 * i_t, tl.load(totals + 2 * i_t) + b_loss)
        tl.store(totals + 2 * i_t + 1, tl.load(totals + 2 * i_t + 1) + b_correct)


@triton.jit
def softmax_loss(b_l, bias, b_label, i_e, o_c, CLASSES: tl.constexpr):
    """Probabilities of logits ``[BB, BC]``, the loss of each row, and if its answer is right."""
    m_c = (o_c < CLASSES)[None, :]
    b_l += tl.load(bias + i_e * CLASSES + o_c, mask=o_c < CLASSES, other=0.0)[None, :]
    b_top, b_win = tl.max(tl.where(m_c, b_l, -float("inf")), axis=1, return_indices=True)
    b_e = tl.where(m_c, tl.exp(b_l - b_top[:, None]), 0.0)
    b_sum = tl.sum(b_e, axis=1)
    b_own = tl.sum(tl.where(o_c[None, :] == b_label[:, None], b_l, 0.0), axis=1)
    return b_e / b_sum[:, None], tl.log(b_sum) + (b_top - b_own), b_win == b_label


@triton.jit
def judge_kernel(
    x,
    labels,
    w,
    bias,
    found,
    MEMBER,
    LINE,
    N,
    F: tl.constexpr,
    CLASSES: tl.constexpr,
    PRECISION: tl.constexpr,
    BB: tl.constexpr,
    BC: tl.constexpr,
    BF: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """Loss and correct answers of BB rows, summed: ``found [E, GROUPS, 2]``."""
    begin(OVERLAPS)
    i_b = tl.program_id(0)
    i_e = tl.program_id(1)
    o_b = i_b * BB + tl.arange(0, BB)
    o_c = tl.arange(0, BC)
    m_b = o_b < N
    o_x = i_e.to(tl.int64) * MEMBER + o_b.to(tl.int64) * LINE
    o_w = (i_e * CLASSES + o_c) * F
    b_l = tl.zeros((BB, BC), tl.float32)
    for i in range(0, F, BF):
        o_f = i + tl.arange(0, BF)
        m = m_b[:, None] & (o_f < F)[None, :]
        b_x = tl.load(x + o_x[:, None] + o_f[None, :], mask=m, other=0.0).to(tl.float32)
        m_w = (o_c < CLASSES)[None, :] & (o_f < F)[:, None]
        b_w = tl.load(w + o_w[None, :] + o_f[:, None], mask=m_w, other=0.0)
        b_l = tl.dot(b_x, b_w, b_l, input_precision=PRECISION)
    b_label = tl.load(labels + o_b, mask=m_b, other=0).to(tl.int32)
    _, b_loss, b_correct = softmax_loss(b_l, bias, b_label, i_e, o_c, CLASSES)
    o = 2 * (i_e * tl.num_programs(0) + i_b)
    tl.store(found + o, tl.sum(tl.where(m_b, b_loss, 0.0).to(tl.float64)))
    tl.store(found + o + 1, tl.sum(tl.where(m_b & b_correct, 1.0, 0.0).to(tl.float64)))
