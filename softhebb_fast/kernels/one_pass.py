"""One pass: u, competition and yx in one kernel, for layers whose yx stays on the chip.

A tile of u is computed, competed and written, and its part of yx added up in registers: u is never
read again. For first layers and small nets: all neurons and all of a patch in one program.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.epilogue import block_positions, store_blocks
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.operands import (
    PreActivations,
    RuleArgs,
    WeightUpdate,
    new_dw,
    new_y_sums,
)
from softhebb_fast.kernels.pooling import PendingPool, Pooling, new_blocks, new_map, pending
from softhebb_fast.kernels.reduction import reduce_splits
from softhebb_fast.kernels.rules import activity_of, rivals, summed
from softhebb_fast.kernels.sync import begin
from softhebb_fast.kernels.tiles import (
    larger,
    load_filters,
    load_patches,
    of_rank,
    statistics,
    store_u,
    store_u_sums,
    u_offsets,
)


class OnePassConstants(NamedTuple):
    """What ``one_pass_kernel`` is compiled for."""

    BM: int
    BN: int
    BP: int
    REST: int  # a patch is BP elements and so many more: 75 is 64 + 16, not 128
    SPLITS: int  # of the positions
    PRECISION: str
    WHOLE: bool  # blocks are windows


@triton.jit
def one_pass_kernel(
    x,
    w,
    bias,
    pre,
    out,
    yx,
    y_sums,
    dw_absmax,
    signals,
    M,
    scalars,
    rank,
    G: tl.constexpr,
    C: tl.constexpr,
    E: tl.constexpr,
    F: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """One of SPLITS ranges of positions: u, yx ``[SPLITS, K, P]`` and, if asked, the sums of y.

    With E the tile of u is pooled into ``out`` (see ``store_blocks``), and u may be None.
    """
    begin(OVERLAPS)
    BM: tl.constexpr = F.BM
    BN: tl.constexpr = F.BN
    BP: tl.constexpr = F.BP
    REST: tl.constexpr = F.REST
    i_s = tl.program_id(0)
    i_g = tl.program_id(1)
    o_k = tl.arange(0, BN)
    m_k = o_k < G.K
    b_w = load_filters(w, i_g, o_k, 0, G, BP, False)  # [BN, BP]
    if REST:
        b_v = load_filters(w, i_g, o_k, BP, G, REST, False)  # [BN, REST]
    if C.NEAREST:
        b_h = squares(b_w) / 2
        if REST:
            b_h += squares(b_v) / 2
    b_yx = tl.zeros((BN, BP), tl.float32)
    if REST:
        b_vx = tl.zeros((BN, REST), tl.float32)
    b_ys = tl.zeros((BN,), tl.float32)
    b_yu = tl.zeros((BN,), tl.float32)
    ROWS = M if E is None else M // (G.OH * G.OW) * (E.NY * E.NX * E.SY * E.SX)
    RANGE = tl.cdiv(tl.cdiv(ROWS, BM), F.SPLITS) * BM
    for i_m in range(i_s * RANGE, tl.minimum((i_s + 1) * RANGE, ROWS), BM):
        o = i_m + tl.arange(0, BM)
        o_m = o if E is None else block_positions(o, M, G, E)
        m = (o_m < M)[:, None] & m_k[None, :]
        b_x = load_patches(x, i_g, o_m, M, 0, G, BP)  # [BM, BP]
        if REST:
            b_z = load_patches(x, i_g, o_m, M, BP, G, REST)  # [BM, REST]
        b_u = tl.dot(b_x, tl.trans(b_w), input_precision=F.PRECISION)  # [BM, BN]
        if REST:
            b_u = tl.dot(b_z, tl.trans(b_v), b_u, input_precision=F.PRECISION)
        if bias is not None:
            b_u += tl.load(bias + i_g * G.K + o_k, mask=m_k, other=0.0).to(tl.float32)[None, :]
        if C.PRE_TRIANGLE:
            b_mean = tl.sum(tl.where(m_k[None, :], b_u, 0.0), axis=1) / G.K
            b_u = larger(b_u - b_mean[:, None], 0.0)
        if pre.u is not None:
            store_u(pre, u_offsets(i_g, o_m[:, None], o_k[None, :], G), m, b_u)
        if E is not None:
            store_blocks(out, b_u, o, o_m, i_g, o_k, M, G, E, F.WHOLE)
        store_u_sums(pre, b_u, m_k[None, :], i_g * M + o_m, o_m < M)
        b_r, b_top, b_win, b_log = b_u, o_m, o_m, o_m
        if C.NEAREST:
            b_r = b_u - b_h[None, :]
        b_r = rivals(b_r, signals, i_g, o_k, G, C)
        if C.ACTIVITY == "competition" or C.ACTIVITY == "error":
            b_c = tl.where(m_k[None, :], b_r, -float("inf"))
            b_top, b_win, b_log = statistics(b_c, scalars.t_log2e)
        m_win = o_k[None, :] == b_win[:, None]
        m_anti = m_win
        if C.RANKS:
            b_anti = of_rank(b_c, b_win, rank, o_k, G)
            m_anti = o_k[None, :] == b_anti[:, None]
        b_y, b_f = activity_of(
            *(b_u, b_r, m_win, m_anti, b_top[:, None], b_log[:, None]),
            *(signals, i_g, o_m, M, o_k, scalars, G, C),
        )
        if y_sums is not None:
            b_s, b_g = summed(b_y, b_u, b_f, m, m, C)
            b_ys += tl.sum(b_s, axis=0)
            b_yu += tl.sum(b_g, axis=0)
        b_t = tl.trans(b_y.to(b_x.dtype))  # [BN, BM]
        b_yx = tl.dot(b_t, b_x, b_yx, input_precision=F.PRECISION)
        if REST:
            b_vx = tl.dot(b_t, b_z, b_vx, input_precision=F.PRECISION)
    if i_s == 0:
        tl.store(dw_absmax + i_g, 0)
    o_n = i_g * G.K + o_k
    o_s = i_s.to(tl.int64) * (G.GROUPS * G.K)
    o_p = tl.arange(0, BP)
    o = ((o_s + o_n) * G.P)[:, None]
    tl.store(yx + o + o_p[None, :], b_yx, mask=m_k[:, None] & (o_p < G.P)[None, :])
    if REST:
        o_p = BP + tl.arange(0, REST)
        tl.store(yx + o + o_p[None, :], b_vx, mask=m_k[:, None] & (o_p < G.P)[None, :])
    if y_sums is not None:
        tl.store(y_sums + 2 * o_s + o_n, b_ys, mask=m_k)
        tl.store(y_sums + 2 * o_s + G.GROUPS * G.K + o_n, b_yu, mask=m_k)


@triton.jit
def squares(b_w):
    """The sum of the squares of every filter."""
    b_w = b_w.to(tl.float32)
    return tl.sum(b_w * b_w, axis=1)


def fits(x: Tensor, G: Geometry, c: RuleArgs, E: Pooling | None = None) -> Config | None:
    """The configuration in which one kernel does forward, activity and plasticity, and pools a tile
    if ``E`` can be in it; or None."""
    if c.flags.LEBESGUE or (c.flags.PRE_TRIANGLE and G.GROUPS > 1):
        return None
    if c.unbounded and x.dtype == torch.float16:  # y is a factor of that dtype, and has no scale
        return None
    arch = configs.architecture(x.device)
    if not (c.of_softhebb or configs.one_pass_of_rules(arch)):
        return None
    config = configs.one_pass(G, x.dtype, arch)
    if config is None or E is None or not E.in_tile(G):
        return config
    return config if configs.one_pass_of_blocks(G, config, arch) else None


def one_pass(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    G: Geometry,
    c: RuleArgs,
    config: Config,
    E: Pooling | None = None,
    rated: bool = False,
    summed: bool = False,
) -> tuple[Tensor, WeightUpdate, PendingPool | None]:
    """u and the update in two launches; with ``E`` pooled blocks instead of u, where it has any."""
    M = x.shape[0] * G.pixels
    pre, out, pool = PreActivations(), None, None
    tiled = E is not None and E.in_tile(G)
    if tiled:
        out, pool = new_blocks(x, G, E)
    else:
        pre = PreActivations(new_map(x, G, G.OH, G.OW))
        if E is not None:
            if E.CENTRE:
                pre = pre._replace(u_sums=x.new_empty((G.GROUPS, M), dtype=torch.float32))
            pooled = new_map(x, G, E.OY, E.OX)
            pool = pending(pre.u, pre.u_sums, pooled, M, G, E, parts=G.GROUPS)
    rows = x.shape[0] * E.NY * E.NX * E.block if tiled else M
    splits = configs.one_pass_splits(rows, config)
    known = c.flags.GAIN in ("none", "product") and bias is None and not c.flags.PRE_TRIANGLE
    d, norms, yx = new_dw(x, G, splits, 1, rated)
    y_sums = None if known and not summed else new_y_sums(x, G, splits)
    update = WeightUpdate(d, norms, x.new_empty((G.GROUPS,), dtype=torch.int32), y_sums)
    launch.launch(
        one_pass_kernel,
        (splits, G.GROUPS),
        config,
        x=x,
        w=w,
        bias=bias,
        pre=pre,
        out=out,
        yx=yx,
        y_sums=y_sums,
        dw_absmax=update.dw_absmax,
        signals=c.signals,
        M=M,
        scalars=c.scalars,
        rank=c.rank,
        G=G,
        C=c.flags,
        E=E if tiled else None,
        F=OnePassConstants(
            **config.tiles,
            REST=configs.rest(G, config),
            SPLITS=splits,
            PRECISION=configs.precision(x.dtype),
            WHOLE=tiled and pool is None,
        ),
    )
    reduce_splits(yx, update, w, G, c, splits)
    return out if pre.u is None else pre.u, update, pool
