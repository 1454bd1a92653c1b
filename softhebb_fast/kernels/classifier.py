"""The linear classifier: a step of cross-entropy descent by Adam in two launches, and its test.

Features are rows of memory, of several members at once: networks that train side by side, each with
an order, a mask and weights of its own. Nothing comes from the host but the number of a step in its
graph: ``clock`` holds the steps done and the row of ``order`` where the next one begins.

Sources: Kingma & Ba 2015 (Adam, algorithm 1); Salmon et al. 2011 (Philox, for the dropout mask).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import launch
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.sync import is_last

LEVELS = 1 << 16  # of the probability of dropout
BETAS, EPS = (0.9, 0.999), 1e-8  # of Adam
MOST_CLASSES = 128
# by the classes that a tile holds: of a step's two kernels and of the test
CONFIGS = {
    16: (Config(16, 16, 64, 4, 1), Config(32, 16, 128, 4, 2), Config(32, 16, 64, 4, 3)),
    32: (Config(16, 32, 32, 4, 1), Config(32, 32, 64, 4, 2), Config(32, 32, 32, 4, 3)),
    64: (Config(16, 64, 32, 8, 1), Config(32, 64, 64, 8, 2), Config(32, 64, 32, 8, 3)),
    128: (Config(16, 128, 16, 8, 1), Config(32, 128, 64, 8, 2), Config(32, 128, 32, 8, 3)),
}


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
    arrived,
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
):
    """Logits of BB rows from one of CHUNKS parts of the features, of ``8 BF`` each.

    The last program of the rows sums the parts ``[E, CHUNKS, ROWS, BC]`` in their order and leaves
    the loss's gradient ``[E, ROWS, BC]`` by the logits, and its share of ``totals [E, GROUPS, 2]``:
    loss and correct answers, summed over steps. ``kept [E, ROWS, F]``, if given, is the dropout
    mask that it draws: of 65536 values of 16 bits the first ``dropped`` are dropped.
    """
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
    if is_last(arrived + i_t, CHUNKS):
        tl.store(arrived + i_t, 0)
        b_l = tl.zeros((BB, BC), tl.float32)
        for i in range(CHUNKS):
            o = i * ROWS * BC + o_l
            b_l += tl.load(parts + o, mask=m_b[:, None], other=0.0, cache_modifier=".cg")
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
):
    """Adam's step on BF columns of the weights ``[E, CLASSES, F]``, the first also on the bias.

    ``corrections [STEPS, 2]`` are ``1 / (1 - beta1^t)`` and ``(1 - beta2^t)^-1/2`` of step t.
    """
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
):
    """Loss and correct answers of BB rows, summed: ``found [E, GROUPS, 2]``."""
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


class State(NamedTuple):
    """E classifiers in the course of their training, and the room that a step needs.

    ``weight [E, CLASSES, F]`` and ``bias [E, CLASSES]`` with Adam's running means and mean squares;
    ``rate`` and ``corrections [STEPS, 2]``; ``clock``, steps done and the row of the order; ``seeds
    [E]`` of the masks; ``totals [E, GROUPS, 2]``, loss and correct answers since they were cleared.
    """

    weight: Tensor
    weight_mean: Tensor
    weight_square: Tensor
    bias: Tensor
    bias_mean: Tensor
    bias_square: Tensor
    rate: Tensor
    corrections: Tensor
    clock: Tensor
    seeds: Tensor
    totals: Tensor
    kept: Tensor | None
    parts: Tensor
    gradient: Tensor
    arrived: Tensor


def new_state(
    weight: Tensor, bias: Tensor, seeds: Tensor, batch: int, steps: int, dropout: float
) -> State:
    """The state before the first of ``steps`` steps in batches of ``batch`` rows.

    ``weight [E, CLASSES, F]`` and ``bias [E, CLASSES]`` float32 are changed in place.
    """
    members, classes, features = weight.shape
    forward, *_ = _configs(classes)
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    corrections = torch.stack([1 / (1 - BETAS[0] ** t), (1 - BETAS[1] ** t) ** -0.5], dim=1)
    groups = -(-batch // forward.BM)

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=weight.device)

    return State(
        weight,
        torch.zeros_like(weight),
        torch.zeros_like(weight),
        bias,
        torch.zeros_like(bias),
        torch.zeros_like(bias),
        rate=new(1),
        corrections=corrections.to(weight.device, torch.float32),
        clock=new(2, dtype=torch.int32),
        seeds=seeds.to(weight.device, torch.int64),
        totals=new(members, groups, 2, dtype=torch.float64),
        kept=new(members, batch, features, dtype=torch.int8) if dropout else None,
        parts=new(members, _chunks(features, forward), batch, forward.BN),
        gradient=new(members, batch, forward.BN),
        arrived=new(members, groups, dtype=torch.int32),
    )


def step(
    state: State,
    x: Tensor,
    order: Tensor,
    labels: Tensor,
    number: int,
    first: int,
    rows: int,
    p: float,
) -> None:
    """One step, the ``number``-th from ``clock`` on: ``rows`` rows of the order from ``first`` on.

    ``x [E, N, F]`` in any float dtype, the features of a row contiguous; ``order [E, N]`` and
    ``labels [N]`` int64.
    """
    members, classes, features = state.weight.shape
    n, dropped = x.shape[1], round(p * LEVELS)
    forward, update, _ = _configs(classes)
    chunks = _chunks(features, forward)
    common = {"x": x, "order": order, "kept": state.kept, "clock": state.clock, "N": n}
    common |= {"MEMBER": x.stride(0), "LINE": x.stride(1), "ROWS": rows, "STEP": number}
    common |= {"FIRST": first, "dropped": dropped}
    launch.launch(
        classify_kernel,
        (chunks, -(-rows // forward.BM), members),
        forward,
        **common,
        labels=labels,
        w=state.weight,
        bias=state.bias,
        seeds=state.seeds,
        parts=state.parts,
        gradient=state.gradient,
        totals=state.totals,
        arrived=state.arrived,
        CHUNKS=chunks,
        GROUPS=state.totals.shape[1],
        **_constants(classes, features, forward),
    )
    launch.launch(
        descend_kernel,
        (-(-features // update.BP), members),
        update,
        **common,
        gradient=state.gradient,
        w=state.weight,
        w_mean=state.weight_mean,
        w_square=state.weight_square,
        bias=state.bias,
        bias_mean=state.bias_mean,
        bias_square=state.bias_square,
        corrections=state.corrections,
        rate=state.rate,
        beta1=BETAS[0],
        beta2=BETAS[1],
        eps=EPS,
        **_constants(classes, features, update),
    )


def judge(weight: Tensor, bias: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    """Summed loss and correct answers on ``x [E, N, F]``, float64 ``[E, 2]``."""
    members, classes, features = weight.shape
    *_, config = _configs(classes)
    groups = -(-x.shape[1] // config.BM)
    found = torch.empty((members, groups, 2), dtype=torch.float64, device=x.device)
    launch.launch(
        judge_kernel,
        (groups, members),
        config,
        x=x,
        labels=labels,
        w=weight,
        bias=bias,
        found=found,
        MEMBER=x.stride(0),
        LINE=x.stride(1),
        N=x.shape[1],
        **_constants(classes, features, config),
    )
    return found.sum(dim=1)


def _configs(classes: int) -> tuple[Config, Config, Config]:
    return next(found for wide, found in CONFIGS.items() if classes <= wide)


def _constants(classes: int, features: int, c: Config) -> dict[str, object]:
    # Sixteen classes fit the registers of a product without matrix units.
    precision = "ieee" if c.BN == 16 else "tf32x3"
    tile = {"BB": c.BM, "BC": c.BN, "BF": c.BP}
    return {"F": features, "CLASSES": classes, "PRECISION": precision, **tile}


def _chunks(features: int, c: Config) -> int:
    return -(-features // (8 * c.BP))
