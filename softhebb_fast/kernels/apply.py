"""Apply: D, normalised, times the rates, onto the weights in place; and a rule's statistic."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.epilogue import pool_tile
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.operands import RuleArgs, WeightUpdate
from softhebb_fast.kernels.pooling import NO_POOL, PendingPool
from softhebb_fast.kernels.reduction import sum_of_parts
from softhebb_fast.kernels.rules import load_modulator
from softhebb_fast.kernels.sync import begin
from softhebb_fast.kernels.tiles import contiguous_offsets, lebesgue, weight_offsets
from softhebb_fast.options import Rate


class ApplyConstants(NamedTuple):
    """What ``apply_kernel`` is compiled for, but for the pooling."""

    BK: int
    BP: int
    COLUMNS: int  # of the norms
    PARTS: int  # of the sums
    UNIT_NORM: bool  # a program has whole filters and scales them


@triton.jit
def apply_kernel(
    update,
    w,
    delta_w,
    bias,
    delta_b,
    statistic,
    counts,
    modulator,
    pool,
    M,
    scalars,
    rate,
    G: tl.constexpr,
    C: tl.constexpr,
    F: tl.constexpr,
    E: tl.constexpr,
    Q: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """A tile ``[BK, BP]`` of the weights; where E asks for it, programs beyond those pool.

    Neither needs the other: together they save a launch. Tiles come last to first, so that what the
    kernel before touched last, and may still be in the cache, is read first.
    """
    begin(OVERLAPS)
    BK: tl.constexpr = F.BK
    BP: tl.constexpr = F.BP
    ACROSS: tl.constexpr = 1 if F.UNIT_NORM else (G.P + BP - 1) // BP
    DOWN: tl.constexpr = (G.K + BK - 1) // BK
    i = ACROSS * DOWN * G.GROUPS - 1 - tl.program_id(0)
    if i >= 0:
        i_g = i // (ACROSS * DOWN)
        o_k = i // ACROSS % DOWN * BK + tl.arange(0, BK)
        b_n = o_k
        if C.NORMALISE == "count" or statistic is not None:
            N: tl.constexpr = G.GROUPS * G.K
            o_n = i_g * G.K + o_k
            b_n = sum_of_parts(update.y_sums, 2 * N, o_n, o_k < G.K, 0, F.PARTS, F.PARTS)
            if statistic is not None:  # noqa: SIM102
                if i % ACROSS == 0:
                    tl.store(statistic + o_n, b_n, mask=o_k < G.K)
            if C.NORMALISE == "count":
                b_n += tl.load(counts + o_n, mask=o_k < G.K, other=0.0).to(tl.float32)
        if F.UNIT_NORM:
            unit_weights(update, w, b_n, i_g, o_k, M, scalars, rate, G, C, BP, F.COLUMNS)
        else:
            o_p = i % ACROSS * BP + tl.arange(0, BP)
            update_weights(
                update, w, delta_w, b_n, i_g, o_k, o_p, M, scalars, rate, G, C, F.COLUMNS
            )
        if delta_b is not None:  # noqa: SIM102
            if i == 0:
                bias_update(update.y_sums, bias, delta_b, modulator, M, scalars, G, C, F.PARTS)
    elif E is not None:
        pool_tile(-1 - i, pool, M, G, E, Q)


@triton.jit
def update_weights(
    update,
    w,
    delta_w,
    b_n,
    i_g,
    o_k,
    o_p,
    M,
    scalars,
    rate,
    G: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """D, normalised, into ``delta_w`` or, where that is None, times the rate onto the weights."""
    b_d = direction(update, b_n, i_g, o_k, o_p, M, G, C)
    if delta_w is None:
        b_rate = rates(update.norms, i_g, o_k, scalars, rate, G, C, COLUMNS)
        o_w, m = weight_offsets(i_g, o_k, o_p, G)
        b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32)
        tl.store(w + o_w, (b_w + b_rate[:, None] * b_d).to(w.dtype.element_ty), mask=m)
    else:
        m = (o_k < G.K)[:, None] & (o_p < G.P)[None, :]
        o = contiguous_offsets(i_g, o_k, o_p, G)
        tl.store(delta_w + o, b_d.to(delta_w.dtype.element_ty), mask=m)


@triton.jit
def unit_weights(
    update,
    w,
    b_n,
    i_g,
    o_k,
    M,
    scalars,
    rate,
    G: tl.constexpr,
    C: tl.constexpr,
    BP: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The step of whole filters, which are scaled to norm 1 then, but for those whose rate is 0.

    They are made twice: for their norm, and to be stored.
    """
    b_rate = rates(update.norms, i_g, o_k, scalars, rate, G, C, COLUMNS)
    b_sum = tl.zeros((o_k.shape[0], BP), tl.float32)
    for i_p in range(0, G.P, BP):
        o_p = i_p + tl.arange(0, BP)
        b_d = direction(update, b_n, i_g, o_k, o_p, M, G, C)
        o_w, m = weight_offsets(i_g, o_k, o_p, G)
        b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32) + b_rate[:, None] * b_d
        b_sum += tl.abs(lebesgue(b_w, scalars.lebesgue_p, C) * b_w)
    b_norm = root(tl.sum(b_sum, axis=1), scalars, C) + 1e-30
    b_norm = tl.where(b_rate == 0, 1.0, b_norm)
    tl.debug_barrier()
    for i_p in range(0, G.P, BP):
        o_p = i_p + tl.arange(0, BP)
        b_d = direction(update, b_n, i_g, o_k, o_p, M, G, C)
        o_w, m = weight_offsets(i_g, o_k, o_p, G)
        b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32) + b_rate[:, None] * b_d
        tl.store(w + o_w, (b_w / b_norm[:, None]).to(w.dtype.element_ty), mask=m)


@triton.jit
def direction(update, b_n, i_g, o_k, o_p, M, G: tl.constexpr, C: tl.constexpr):
    """D of neurons ``o_k``, elements ``o_p``, normalised; by ``b_n`` where that is by counts."""
    o_n = i_g * G.K + o_k
    m = (o_k < G.K)[:, None] & (o_p < G.P)[None, :]
    if C.NORMALISE == "max":
        b_max = tl.load(update.dw_absmax + i_g).to(tl.float32, bitcast=True)
    b_d = tl.load(update.d + (o_n.to(tl.int64) * G.P)[:, None] + o_p[None, :], mask=m, other=0.0)
    if C.NORMALISE == "max":
        b_d = b_d / (b_max + 1e-30)
    elif C.NORMALISE == "mean":
        b_d = b_d / M.to(tl.float32)
    elif C.NORMALISE == "count":
        b_d = b_d / (b_n + 1e-30)[:, None]
    return b_d


@triton.jit
def rates(norms, i_g, o_k, scalars, rate, G: tl.constexpr, C: tl.constexpr, COLUMNS: tl.constexpr):
    """Of neurons ``o_k``, from the norms of their weights as they were."""
    o_n = i_g * G.K + o_k
    o_c = tl.arange(0, triton.next_power_of_2(COLUMNS))[None, :]
    m_c = (o_k < G.K)[:, None] & (o_c < COLUMNS)
    b_norm = tl.load(norms + o_n[:, None] * COLUMNS + o_c, mask=m_c, other=0.0)
    b_norm = root(tl.sum(b_norm, axis=1), scalars, C)
    b_lr = rate.lr
    if rate.lr_tensor is not None:
        b_lr = tl.load(rate.lr_tensor).to(tl.float32)
    b_rate = b_lr * tl.exp2(rate.lr_power * tl.log2(tl.abs(b_norm - 1.0) + 1e-10))
    if rate.neuron_rates is not None:
        b_rate *= tl.load(rate.neuron_rates + o_n, mask=o_k < G.K, other=0.0).to(tl.float32)
    return b_rate


@triton.jit
def root(b_sum, scalars, C: tl.constexpr):
    """The norm that a sum of |W|^p makes."""
    return tl.exp2(tl.log2(b_sum) / scalars.lebesgue_p) if C.LEBESGUE else tl.sqrt(b_sum)


@triton.jit
def bias_update(
    y_sums,
    bias,
    delta_b,
    modulator,
    M,
    scalars,
    G: tl.constexpr,
    C: tl.constexpr,
    PARTS: tl.constexpr,
):
    """``(sum y - e^(t b) M) / e^(t b)``, divided by its largest magnitude; of all groups.

    With a modulator M is its sum.
    """
    N: tl.constexpr = G.GROUPS * G.K
    o_n = tl.arange(0, triton.next_power_of_2(N))
    m_n = o_n < N
    b_ys = tl.zeros(o_n.shape, tl.float32)
    for i_s in range(PARTS):
        b_ys += tl.load(y_sums + 2 * i_s * N + o_n, mask=m_n, other=0.0)
    if modulator is not None:
        b_sum = tl.zeros((1024,), tl.float32)
        for i_m in range(0, M, 1024):
            b_sum += load_modulator(modulator, i_m + tl.arange(0, 1024), M, G, C)
        M = tl.sum(b_sum)
    b_prior = tl.exp2(scalars.t_log2e * tl.load(bias + o_n, mask=m_n, other=0.0).to(tl.float32))
    b_d = tl.where(m_n, (b_ys - b_prior * M) / b_prior, 0.0)
    b_d = b_d / (tl.max(tl.abs(b_d)) + 1e-30)
    tl.store(delta_b + o_n, b_d.to(delta_b.dtype.element_ty), mask=m_n)


def apply(
    w: Tensor,
    bias: Tensor | None,
    update: WeightUpdate,
    positions: int,
    G: Geometry,
    c: RuleArgs,
    delta_w: Tensor | None,
    delta_b: Tensor | None,
    statistic: Tensor | None,
    rate: Rate,
    pool: PendingPool | None = None,
) -> None:
    """D, normalised, into ``delta_w``; where that is None, the step on ``w``: one launch.

    It also pools what is left to pool.
    """
    config, pool = configs.apply(G), pool or NO_POOL
    unit_norm = delta_w is None and rate.unit_norm
    across = 1 if unit_norm else -(-G.P // config.BP)
    tiles = -(-G.K // config.BN) * across * G.GROUPS
    summed = delta_b is not None or statistic is not None
    launch.launch(
        apply_kernel,
        (tiles + pool.programs,),
        config,
        update=update if summed else update._replace(y_sums=None),
        w=w if delta_w is None else None,
        delta_w=delta_w,
        bias=bias,
        delta_b=delta_b,
        statistic=statistic,
        counts=c.counts,
        modulator=c.signals.modulator if delta_b is not None else None,
        pool=pool.tensors,
        M=positions,
        scalars=c.scalars,
        rate=rate._replace(unit_norm=None),
        G=G,
        C=c.flags,
        F=ApplyConstants(config.BN, config.BP, update.columns, update.parts, unit_norm),
        E=pool.E,
        Q=pool.constants,
    )
