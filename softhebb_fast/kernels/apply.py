"""Apply: D by its largest magnitude, times the rates, onto the weights in place."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.epilogue import pool_tile
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.operands import CompetitionArgs, WeightUpdate
from softhebb_fast.kernels.pooling import NO_POOL, PendingPool
from softhebb_fast.kernels.tiles import contiguous_offsets, weight_offsets
from softhebb_fast.options import Rate


class ApplyConstants(NamedTuple):
    """What ``apply_kernel`` is compiled for, but for the pooling."""

    BK: int
    BP: int
    COLUMNS: int  # of the norms
    PARTS: int  # of the sums


@triton.jit
def apply_kernel(
    update,
    w,
    delta_w,
    bias,
    delta_b,
    pool,
    M,
    scalars,
    rate,
    G: tl.constexpr,
    C: tl.constexpr,
    F: tl.constexpr,
    E: tl.constexpr,
    Q: tl.constexpr,
):
    """A tile ``[BK, BP]`` of the weights; where E asks for it, programs beyond those pool.

    Neither needs the other: together they save a launch. Tiles come last to first, so that what the
    kernel before touched last, and may still be in the cache, is read first.
    """
    BK: tl.constexpr = F.BK
    BP: tl.constexpr = F.BP
    ACROSS: tl.constexpr = (G.P + BP - 1) // BP
    DOWN: tl.constexpr = (G.K + BK - 1) // BK
    i = ACROSS * DOWN * G.GROUPS - 1 - tl.program_id(0)
    if i >= 0:
        i_g = i // (ACROSS * DOWN)
        o_k = i // ACROSS % DOWN * BK + tl.arange(0, BK)
        o_p = i % ACROSS * BP + tl.arange(0, BP)
        update_weights(update, w, delta_w, i_g, o_k, o_p, scalars, rate, G, C, F.COLUMNS)
        if delta_b is not None:  # noqa: SIM102
            if i == 0:
                bias_update(update.y_sums, bias, delta_b, M, scalars.t_log2e, G, F.PARTS)
    elif E is not None:
        pool_tile(-1 - i, pool, M, G, E, Q)


@triton.jit
def update_weights(
    update,
    w,
    delta_w,
    i_g,
    o_k,
    o_p,
    scalars,
    rate,
    G: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """``D / max |D|`` into ``delta_w`` or, where that is None, times the rate onto the weights.

    The rate follows from the norm of the weights as they are.
    """
    o_n = i_g * G.K + o_k
    m_k = o_k < G.K
    m = m_k[:, None] & (o_p < G.P)[None, :]
    b_max = tl.load(update.dw_absmax + i_g).to(tl.float32, bitcast=True)
    b_d = tl.load(update.d + (o_n.to(tl.int64) * G.P)[:, None] + o_p[None, :], mask=m, other=0.0)
    b_d = b_d / (b_max + 1e-30)
    if delta_w is None:
        o_c = tl.arange(0, triton.next_power_of_2(COLUMNS))[None, :]
        m_c = m_k[:, None] & (o_c < COLUMNS)
        b_norm = tl.load(update.norms + o_n[:, None] * COLUMNS + o_c, mask=m_c, other=0.0)
        b_norm = tl.sum(b_norm, axis=1)
        b_norm = tl.exp2(tl.log2(b_norm) / scalars.lebesgue_p) if C.LEBESGUE else tl.sqrt(b_norm)
        b_lr = rate.lr
        if rate.lr_tensor is not None:
            b_lr = tl.load(rate.lr_tensor).to(tl.float32)
        b_rate = b_lr * tl.exp2(rate.lr_power * tl.log2(tl.abs(b_norm - 1.0) + 1e-10))
        o_w, m = weight_offsets(i_g, o_k, o_p, G)
        b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32)
        tl.store(w + o_w, (b_w + b_rate[:, None] * b_d).to(w.dtype.element_ty), mask=m)
    else:
        o = contiguous_offsets(i_g, o_k, o_p, G)
        tl.store(delta_w + o, b_d.to(delta_w.dtype.element_ty), mask=m)


@triton.jit
def bias_update(y_sums, bias, delta_b, M, t_log2e, G: tl.constexpr, PARTS: tl.constexpr):
    """``(sum y - e^(t b) M) / e^(t b)``, divided by its largest magnitude; of all groups."""
    N: tl.constexpr = G.GROUPS * G.K
    o_n = tl.arange(0, triton.next_power_of_2(N))
    m_n = o_n < N
    b_ys = tl.zeros(o_n.shape, tl.float32)
    for i_s in range(PARTS):
        b_ys += tl.load(y_sums + 2 * i_s * N + o_n, mask=m_n, other=0.0)
    b_prior = tl.exp2(t_log2e * tl.load(bias + o_n, mask=m_n, other=0.0).to(tl.float32))
    b_d = tl.where(m_n, (b_ys - b_prior * M) / b_prior, 0.0)
    b_d = b_d / (tl.max(tl.abs(b_d)) + 1e-30)
    tl.store(delta_b + o_n, b_d.to(delta_b.dtype.element_ty), mask=m_n)


def apply(
    w: Tensor,
    bias: Tensor | None,
    update: WeightUpdate,
    positions: int,
    G: Geometry,
    c: CompetitionArgs,
    delta_w: Tensor | None,
    delta_b: Tensor | None,
    rate: Rate,
    pool: PendingPool | None = None,
) -> None:
    """``D / max |D|`` into ``delta_w``; where that is None, the step on ``w``: one launch.

    It also pools what is left to pool.
    """
    config, pool = configs.apply(G), pool or NO_POOL
    tiles = -(-G.K // config.BN) * -(-G.P // config.BP) * G.GROUPS
    launch.launch(
        apply_kernel,
        (tiles + pool.programs,),
        config,
        update=update if delta_b is not None else update._replace(y_sums=None),
        w=w if delta_w is None else None,
        delta_w=delta_w,
        bias=bias,
        delta_b=delta_b,
        pool=pool.tensors,
        M=positions,
        scalars=c.scalars,
        rate=rate,
        G=G,
        C=c.flags,
        F=ApplyConstants(config.BN, config.BP, update.columns, update.parts),
        E=pool.E,
        Q=pool.constants,
    )
