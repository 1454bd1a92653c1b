"""The weights' update before its scale is known: D = yx - yu W, and its largest magnitude.

yu is the gain of a neuron, the sum of y u in SoftHebb, and what decays anyway.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.operands import RuleArgs, WeightUpdate
from softhebb_fast.kernels.sync import begin
from softhebb_fast.kernels.tiles import lebesgue, weight_offsets


class ReductionConstants(NamedTuple):
    """What ``reduce_splits_kernel`` is compiled for."""

    SPLITS: int
    BS: int  # of these are summed at once
    BP: int


@triton.jit
def reduce_splits_kernel(
    yx,
    update,
    w,
    scalars,
    G: tl.constexpr,
    C: tl.constexpr,
    F: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """D of one neuron, whole in registers: its SPLITS of yx summed in their order, less yu W.

    yu is the gain, if ``y_sums [SPLITS, 2, K]`` has it, else <W, yx>, which is the sum of y u where
    u is linear in W.
    """
    begin(OVERLAPS)
    N: tl.constexpr = G.GROUPS * G.K
    SPLITS: tl.constexpr = F.SPLITS
    BP: tl.constexpr = F.BP
    i_n = tl.program_id(0)
    i_g = i_n // G.K
    o_k = i_n % G.K + tl.arange(0, 1)
    o_p = tl.arange(0, BP)
    o_s = tl.arange(0, F.BS)
    b_yx = tl.zeros((1, BP), tl.float32)
    for i_s in range(0, SPLITS, F.BS):
        o = (i_s + o_s).to(tl.int64)[:, None] * (N * G.P) + i_n * G.P + o_p[None, :]
        m = (i_s + o_s < SPLITS)[:, None] & (o_p < G.P)[None, :]
        b_yx += tl.sum(tl.load(yx + o, mask=m, other=0.0), axis=0)[None, :]
    if C.GAIN == "none":
        b_yu = tl.zeros((1,), tl.float32)
    elif update.y_sums is None:
        o_w, m_w = weight_offsets(i_g, o_k, o_p, G)
        b_w = tl.load(w + o_w, mask=m_w, other=0.0).to(tl.float32)
        b_yu = tl.sum(lebesgue(b_w, scalars.lebesgue_p, C) * b_yx, axis=1)
    else:
        o = i_n + tl.arange(0, 1)
        b_yu = sum_of_parts(update.y_sums + N, 2 * N, o, o_k < G.K, 0, SPLITS, SPLITS)
    tl.debug_barrier()
    b_norm, b_max = store_dw(update, b_yx, b_yu, w, i_g, o_k, o_p, scalars, G, C)
    store_norms(update, b_norm, b_max, i_g, 0, o_k, G, 1)


@triton.jit
def store_dw(update, b_yx, b_yu, w, i_g, o_k, o_p, scalars, G: tl.constexpr, C: tl.constexpr):
    """D ``[K, P]`` of neurons ``o_k``, elements ``o_p``; of these, every neuron's sum of |W|^p, if
    ``norms`` are asked for, and the bits of its largest |D|.

    As integers they rank alike, NaN above all, and a maximum has no order.
    """
    o_w, m = weight_offsets(i_g, o_k, o_p, G)
    b_w = tl.load(w + o_w, mask=m, other=0.0).to(tl.float32)
    if scalars.decay is not None:
        b_yu += scalars.decay
    b_d = b_yx
    if C.GAIN != "none" or scalars.decay is not None:
        b_d = b_yx - b_yu[:, None] * b_w
    o = ((i_g * G.K + o_k).to(tl.int64) * G.P)[:, None] + o_p[None, :]
    tl.store(update.d + o, b_d, mask=m)
    b_max = tl.max(tl.where(m, tl.abs(b_d).to(tl.int32, bitcast=True), 0), axis=1)
    b_norm = tl.zeros(o_k.shape, tl.float32)
    if update.norms is not None:
        b_norm = tl.sum(tl.abs(lebesgue(b_w, scalars.lebesgue_p, C) * b_w), axis=1)
    return b_norm, b_max


@triton.jit
def store_norms(update, b_norm, b_max, i_g, i_c, o_k, G: tl.constexpr, COLUMNS: tl.constexpr):
    """Column ``i_c`` of ``norms [K, COLUMNS]``, if they are asked for, and the largest |D|."""
    if update.norms is not None:
        tl.store(update.norms + (i_g * G.K + o_k) * COLUMNS + i_c, b_norm, mask=o_k < G.K)
    tl.atomic_max(update.dw_absmax + i_g, tl.max(b_max))


@triton.jit
def sum_of_splits(yx, i_g, o_k, o_p, G: tl.constexpr, SPLITS: tl.constexpr):
    """The sum of ``yx [SPLITS, K, P]`` in its order, and nobody reads it any more after that."""
    AT_ONCE: tl.constexpr = min(SPLITS, 4)
    PART: tl.constexpr = G.GROUPS * G.K * G.P
    o = ((i_g * G.K + o_k).to(tl.int64) * G.P)[:, None] + o_p[None, :]
    m = (o_k < G.K)[:, None] & (o_p < G.P)[None, :]
    b_yx = tl.zeros((o_k.shape[0], o_p.shape[0]), tl.float32)
    for i in range(0, SPLITS, AT_ONCE):
        for j in tl.static_range(AT_ONCE):
            b_yx += tl.load(
                yx + (i + j) * PART + o,
                mask=m & (i + j < SPLITS),
                other=0.0,
                cache_modifier=".cg",
            )
    tl.debug_barrier()
    return b_yx


@triton.jit
def sum_of_tiles(tiles, o_c, N, BN: tl.constexpr, BP: tl.constexpr):
    """The sum of columns ``o_c`` of N tiles ``[BN, BP]``, in their order."""
    o = tl.arange(0, BN)[:, None] * BP + o_c[None, :]
    b_sum = tl.zeros((BN, o_c.shape[0]), tl.float32)
    for i in range(0, N):
        b_sum += tl.load(tiles + i * (BN * BP) + o, cache_modifier=".cg")
    return b_sum


@triton.jit
def sum_of_parts(y_sums, STEP: tl.constexpr, o, m, first, PARTS: tl.constexpr, SHARE: tl.constexpr):
    """The sum of SHARE of PARTS, which lie STEP apart, from the one of number ``first`` on."""
    AT_ONCE: tl.constexpr = min(32, triton.next_power_of_2(SHARE))
    b_sum = tl.zeros((AT_ONCE, o.shape[0]), tl.float32)
    for i in range(0, SHARE, AT_ONCE):
        o_s = i + tl.arange(0, AT_ONCE)[:, None]
        m_s = (o_s < SHARE) & (first + o_s < PARTS) & m[None, :]
        o_s = (first + o_s) * STEP + o[None, :]
        b_sum += tl.load(y_sums + o_s, mask=m_s, other=0.0, cache_modifier=".cg")
    return tl.sum(b_sum, axis=0)


def reduce_splits(
    yx: Tensor, update: WeightUpdate, w: Tensor, G: Geometry, c: RuleArgs, splits: int
) -> None:
    """D of the parts of yx: one launch."""
    config = configs.reduce_splits(G)
    launch.launch(
        reduce_splits_kernel,
        (G.neurons,),
        config,
        yx=yx,
        update=update,
        w=w,
        scalars=c.scalars,
        G=G,
        C=c.flags,
        F=ReductionConstants(splits, config.BM, config.BP),
    )
