"""Plasticity: yx = sum over positions of y x, an implicit product of matrices, and D of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import launch
from softhebb_fast.kernels.activity import activity
from softhebb_fast.kernels.float16_scale import power_of_two_below, rest_of, x_factor
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.operands import (
    NO_ACTIVITY,
    ForwardState,
    Prepared,
    RuleArgs,
    Tiling,
    WeightUpdate,
    new_dw,
)
from softhebb_fast.kernels.reduction import (
    store_dw,
    store_norms,
    sum_of_parts,
    sum_of_splits,
    sum_of_tiles,
)
from softhebb_fast.kernels.sync import begin, is_last
from softhebb_fast.kernels.tiles import load_patches, u_offsets


class PlasticityConstants(NamedTuple):
    """What ``plasticity_kernel`` is compiled for."""

    BM: int
    BN: int
    BP: int
    WHOLE: int  # tiles, the first, that one program has
    SPLITS: int  # programs of every other tile
    PARTS: int  # of the sums of y
    SCALED: bool
    ABSMAX_PROGRAMS: int


@triton.jit
def plasticity_kernel(
    x,
    act,
    prep,
    w,
    yx,
    rest,
    yu,
    update,
    M,
    scalars,
    G: tl.constexpr,
    C: tl.constexpr,
    F: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """A tile of yx ``[BN, BP]`` over one of SPLITS parts of the positions; the last makes it D.

    x and y are one term or the sum of two, see ``activity_kernel``; the product of both second
    terms is as small as what these left out, and left out too. With SCALED both are scaled; y of
    ``y_absmax`` is scaled and split here.

    A program leaves its part of the tile in ``yx [SPLITS, K, P]``, that of the sums of y u in ``yu
    [COLUMNS, SPLITS, K]``, and counts itself in ``split_counters``. The one that finds itself the
    last there sums the parts in their order, which is the same whoever that is.

    With WHOLE only the tiles after so many are shared, those of a last wave that would leave most
    multiprocessors idle. Then yx is ``[K, P]``, and has the first part of a tile; the others lie
    in ``rest [TILES, SPLITS - 1, BN, BP]``.

    Source: Osama et al. 2023 (Stream-K), the hybrid of whole tiles and shared ones.
    """
    begin(OVERLAPS)
    BM: tl.constexpr = F.BM
    BN: tl.constexpr = F.BN
    BP: tl.constexpr = F.BP
    SPLITS: tl.constexpr = F.SPLITS
    WHOLE: tl.constexpr = F.WHOLE
    COLUMNS: tl.constexpr = (G.P + BP - 1) // BP
    i_t = tl.program_id(0)
    i_s = tl.program_id(1)
    i_g = tl.program_id(2)
    parts = SPLITS
    if WHOLE > 0:
        i_rest = tl.maximum(i_t - WHOLE, 0)
        parts = tl.where(i_t < WHOLE, 1, SPLITS)
        i_s = i_rest % SPLITS
        i_t = tl.minimum(i_t, WHOLE + i_rest // SPLITS)
    i_k = i_t // COLUMNS
    i_p = i_t % COLUMNS
    o_k = i_k * BN + tl.arange(0, BN)
    o_p = i_p * BP + tl.arange(0, BP)
    m_k = o_k < G.K
    if act.y_absmax is not None:
        bits = tl.load(act.y_absmax + i_g * G.K + o_k, mask=m_k, other=0)
        b_scale, b_y_inverse = power_of_two_below(bits)
    b_yx = tl.zeros((BN, BP), tl.float32)
    RANGE = tl.cdiv(tl.cdiv(M, BM), parts) * BM
    STEPS = tl.cdiv(tl.minimum((i_s + 1) * RANGE, M) - i_s * RANGE, BM)
    for i in range(0, STEPS):
        i_m = i_s * RANGE + (STEPS - 1 - i) * BM
        o_m = tl.multiple_of(i_m, BM) + tl.arange(0, BM)
        m = (o_m < M)[:, None] & m_k[None, :]
        o_y = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
        b_y = tl.load(act.y + o_y, mask=m, other=0.0)  # [BM, BN]
        b_x = load_patches(x, i_g, o_m, M, i_p * BP, G, BP)  # [BM, BP]
        if act.y_absmax is not None:
            b_w = b_y * b_scale[None, :]
            b_y = b_w.to(b_x.dtype)
        if prep.x1 is not None:
            if act.y_absmax is not None:
                b_y1 = rest_of(b_w, b_y)
            else:
                b_y1 = tl.load(act.y1 + o_y, mask=m, other=0.0)
            b_x1 = load_patches(prep.x1, i_g, o_m, M, i_p * BP, G, BP)
            b_yx = tl.dot(tl.trans(b_y1), b_x, b_yx)
            b_yx = tl.dot(tl.trans(b_y), b_x1, b_yx)
        b_yx = tl.dot(tl.trans(b_y), b_x, b_yx, input_precision="ieee")
    m_d = m_k[:, None] & (o_p < G.P)[None, :]
    if WHOLE > 0:
        p_rest = rest + (i_t - WHOLE).to(tl.int64) * ((SPLITS - 1) * BN * BP)
        if i_s > 0:
            o = (i_s - 1) * BN + tl.arange(0, BN)
            tl.store(p_rest + o[:, None] * BP + tl.arange(0, BP)[None, :], b_yx)
        else:
            tl.store(yx + (o_k.to(tl.int64) * G.P)[:, None] + o_p[None, :], b_yx, mask=m_d)
    else:
        o = ((i_s * G.GROUPS + i_g) * G.K + o_k).to(tl.int64) * G.P
        tl.store(yx + o[:, None] + o_p[None, :], b_yx, mask=m_d)
    N: tl.constexpr = G.GROUPS * G.K
    SHARES: tl.constexpr = 1 if WHOLE > 0 else SPLITS
    SHARE: tl.constexpr = (F.PARTS + SHARES - 1) // SHARES
    o = i_g * G.K + o_k
    b_yu = tl.zeros((BN,), tl.float32)
    if C.GAIN != "none":
        i_y = 0 if WHOLE > 0 else i_s * SHARE
        b_yu = sum_of_parts(act.y_sums + N, 2 * N, o, m_k, i_y, F.PARTS, SHARE)
    last = True
    if SPLITS > 1:
        if C.GAIN != "none" and SHARES > 1:
            yu += i_p * SPLITS * N
            tl.store(yu + i_s * N + o, b_yu, mask=m_k)
        last = is_last(prep.split_counters + i_g * tl.num_programs(0) + i_t, parts)
    else:
        tl.debug_barrier()
    if last:
        if SHARES > 1 and C.GAIN != "none":
            b_yu = sum_of_parts(yu, N, o, m_k, 0, SPLITS, SPLITS)
        if F.SCALED:
            _, b_inverse = x_factor(prep, scalars, F.ABSMAX_PROGRAMS)
            if act.y_absmax is not None:  # the smaller first: what fits float32 does on the way
                b_first = tl.minimum(b_y_inverse, b_inverse)
                b_second = tl.maximum(b_y_inverse, b_inverse)
        b_norm = tl.zeros((BN,), tl.float32)
        b_max = tl.zeros((BN,), tl.int32)
        AT_ONCE: tl.constexpr = min(BP, 4096 // BN)
        for i in range(i_p * BP, (i_p + 1) * BP, AT_ONCE):
            o_c = i + tl.arange(0, AT_ONCE)
            b_d = sum_of_splits(yx, i_g, o_k, o_c, G, SHARES)
            if WHOLE > 0:
                b_d += sum_of_tiles(p_rest, o_c - i_p * BP, parts - 1, BN, BP)
            if act.y_absmax is not None and F.SCALED:
                b_d = b_d * b_first[:, None] * b_second[:, None]
            elif act.y_absmax is not None:
                b_d = b_d * b_y_inverse[:, None]
            elif F.SCALED:
                b_d = b_d * scalars.y_inverse * b_inverse
            b_n, b_m = store_dw(update, b_d, b_yu, w, i_g, o_k, o_c, scalars, G, C)
            b_norm += b_n
            b_max = tl.maximum(b_max, b_m)
        store_norms(update, b_norm, b_max, i_g, i_p, o_k, G, COLUMNS)


def plasticity(
    x: Tensor,
    w: Tensor,
    state: ForwardState,
    G: Geometry,
    c: RuleArgs,
    T: Tiling,
    rated: bool = False,
    summed: bool = False,
) -> WeightUpdate:
    """The update, its positions split over programs: one launch, or two with ``activity``."""
    M, act, prep = x.shape[0] * G.pixels, state.activity, state.prep
    if act is NO_ACTIVITY:
        act = activity(x, state, G, c, summed)
    shares, tiles = (1 if T.whole else T.splits), T.rows * T.columns
    d, norms, yx = new_dw(x, G, shares, T.columns, rated)
    update, yu, rest = WeightUpdate(d, norms, prep.dw_absmax, act.y_sums), None, None
    if shares > 1 and c.flags.GAIN != "none":
        yu = x.new_empty((T.columns, T.splits, G.neurons), dtype=torch.float32)
    if T.whole:
        shared = tiles - T.whole
        rest = x.new_empty((shared, T.splits - 1, T.config.BN, T.config.BP), dtype=torch.float32)
        tiles = T.whole + shared * T.splits
    launch.launch(
        plasticity_kernel,
        (tiles, shares, G.GROUPS),
        T.config,
        x=x if prep.x0 is None else prep.x0,
        act=act if act.y is not None else act._replace(y=state.pre.u),
        prep=Prepared(prep.x_absmax, None, prep.x1, split_counters=prep.split_counters),
        w=w,
        yx=yx,
        rest=rest,
        yu=yu,
        update=update._replace(y_sums=None),
        M=M,
        scalars=c.scalars,
        G=G,
        C=c.flags,
        F=PlasticityConstants(
            **T.config.tiles,
            WHOLE=T.whole,
            SPLITS=T.splits,
            PARTS=act.y_sums.shape[0],
            SCALED=prep.x0 is not None,
            ABSMAX_PROGRAMS=prep.absmax_programs,
        ),
    )
    return update
