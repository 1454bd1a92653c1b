"""Forward: u = <x_p, W_k> as an implicit product of matrices, with winner, softmax and y.

y of a tile needs the statistics of all tiles of its positions. Programs that share positions are
neighbours, run concurrently and leave their statistics to each other: none reads u again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.activity import finish_tile
from softhebb_fast.kernels.competition import compete
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.epilogue import block_positions, store_blocks
from softhebb_fast.kernels.float16_scale import store_factors, x_factor
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.kernels.operands import (
    NO_ACTIVITY,
    NOTHING_PREPARED,
    ForwardState,
    PreActivations,
    Prepared,
    RuleArgs,
    Signals,
    Statistics,
    Tiling,
    new_activity,
    new_statistics,
)
from softhebb_fast.kernels.pooling import PendingPool, Pooling, new_blocks, new_map, pending
from softhebb_fast.kernels.prepare import prepare
from softhebb_fast.kernels.rules import rivals
from softhebb_fast.kernels.sync import arrive, begin, wait
from softhebb_fast.kernels.tiles import (
    lebesgue,
    left_over,
    load_filters,
    load_patches,
    load_statistics,
    load_u,
    statistics,
    store_statistics,
    store_u,
    store_u_sums,
    u_offsets,
)


class ForwardConstants(NamedTuple):
    """What ``forward_kernel`` is compiled for.

    Neighbouring programs share filters with FILTERS_ONCE, else patches: one of the two comes from
    memory once. A tile of u that is not U_IN_REGISTERS is read back for y.
    """

    BM: int
    BN: int
    BP: int
    PRECISION: str
    TURNED: bool  # filters, as ``load_filters`` takes it
    COMPETE: bool = False
    SUMMED: bool = False  # activities, for a bias or the caller
    WHOLE: bool = False  # blocks are windows
    FILTERS_ONCE: bool = False
    U_IN_REGISTERS: bool = False
    WAITS: bool = False  # for the programs of the same positions
    ABSMAX_PROGRAMS: int = 0


@triton.jit
def forward_kernel(
    x,
    w,
    bias,
    pre,
    out,
    stats,
    act,
    prep,
    signals,
    SPAN,
    M,
    scalars,
    G: tl.constexpr,
    C: tl.constexpr,
    E: tl.constexpr,
    F: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """A tile of u ``[BM, BN]`` and, if asked, its statistics ``[GROUPS, TILES, M]``.

    With E all neurons of a group are in one tile, which is pooled into ``out``, see
    ``store_blocks``, and u may be None. With ``w_inverse`` x and w are scaled.

    With ``act`` the program does the work of ``activity_kernel`` for its tile. Those of the
    same positions count themselves in ``row_counters``, one counter a row of tiles. Where the
    largest x is known only now, each scales a share of x at its end.
    """
    begin(OVERLAPS)
    BM: tl.constexpr = F.BM
    BN: tl.constexpr = F.BN
    BP: tl.constexpr = F.BP
    TILES: tl.constexpr = (G.K + BN - 1) // BN
    ROWS = tl.cdiv(M, BM)
    i = tl.program_id(0)
    i_g = tl.program_id(1)
    if F.FILTERS_ONCE:
        i_m = i % ROWS
        i_n = i // ROWS
    else:
        i_m = i // TILES
        i_n = i % TILES
    o = i_m * BM + tl.arange(0, BM)
    o_m = o if E is None else block_positions(o, M, G, E)
    o_k = i_n * BN + tl.arange(0, BN)
    b_u = tl.zeros((BM, BN), tl.float32)
    for i_p in range(0, G.P, BP):
        b_w = load_filters(w, i_g, o_k, i_p, G, BP, F.TURNED)  # [BN, BP]
        b_x = load_patches(x, i_g, o_m, M, i_p, G, BP)  # [BM, BP]
        if C.LEBESGUE:  # in 16 bits the power needs a second term, as u does
            b_e = lebesgue(b_w, scalars.lebesgue_p, C)
            b_w = b_e.to(b_x.dtype)
            LEARNS: tl.constexpr = F.COMPETE or act.y_sums is not None or pre.u_low is not None
            if b_x.dtype != tl.float32 and LEARNS:
                b_l = left_over(b_e, b_w)
                b_u = tl.dot(b_x, tl.trans(b_l), b_u, input_precision=F.PRECISION)
        b_u = tl.dot(b_x, tl.trans(b_w), b_u, input_precision=F.PRECISION)
    m_k = o_k < G.K
    if prep.w_inverse is not None:
        b_inverse = tl.load(prep.w_inverse + i_g * G.K + o_k, mask=m_k, other=0.0)
        b_u *= (b_inverse * scalars.x_inverse)[None, :]
    if bias is not None:
        b_b = tl.load(bias + i_g * G.K + o_k, mask=m_k, other=0.0)
        b_u += b_b.to(tl.float32)[None, :]
    m = (o_m < M)[:, None] & m_k[None, :]
    o_u = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
    o_s = (i_g * TILES + i_n) * M + o_m
    if pre.u is not None:  # noqa: SIM102
        if not F.U_IN_REGISTERS:
            b_u = store_u(pre, o_u, m, b_u)
    if F.COMPETE:
        b_c = rivals(b_u, signals, i_g, o_k, G, C)
        b_top, b_win, b_log = statistics(
            tl.where(m_k[None, :], b_c, -float("inf")), scalars.t_log2e
        )
        b_win += i_n * BN
        if TILES > 1 or act.y_sums is None:
            store_statistics(stats, o_s, o_m < M, b_top, b_win, b_log)
            if F.WAITS:
                arrive(prep.row_counters + i_g * ROWS + i_m)
    if F.U_IN_REGISTERS:
        store_u(pre, o_u, m, b_u, True)
    if E is not None:
        store_blocks(out, b_u, o, o_m, i_g, o_k, M, G, E, F.WHOLE)
    store_u_sums(pre, b_u, m_k[None, :], o_s, o_m < M)
    if act.y_sums is not None:
        if not F.COMPETE:
            b_top, b_win, b_log = o_m, o_m, o_m
        if F.WAITS:
            wait(prep.row_counters + i_g * ROWS + i_m, TILES)
            b_top, b_win, b_log = load_statistics(stats, i_g, o_m, M, scalars.t_log2e, TILES, C)
        if F.U_IN_REGISTERS:
            finish_tile(
                *(pre, act, signals, i_m, i_g, o_m, M, o_k, b_u, b_top, b_win, b_log),
                *(scalars, F.SUMMED, G, C),
            )
        else:
            tl.debug_barrier()
            AT_ONCE: tl.constexpr = min(BN, 64)
            for i_k in range(i_n * BN, (i_n + 1) * BN, AT_ONCE):
                o_n = i_k + tl.arange(0, AT_ONCE)
                o_y = u_offsets(i_g, o_m[:, None], o_n[None, :], G)
                b_v = load_u(pre, o_y, (o_m < M)[:, None] & (o_n < G.K)[None, :], 0.0, True)
                finish_tile(
                    *(pre, act, signals, i_m, i_g, o_m, M, o_n, b_v, b_top, b_win, b_log),
                    *(scalars, F.SUMMED, G, C),
                )
        if prep.x_absmax is not None:
            b_scale, _ = x_factor(prep, scalars, F.ABSMAX_PROGRAMS)
            RANGE = tl.cdiv(tl.cdiv(SPAN, 2048), tl.num_programs(0) * G.GROUPS)
            FIRST = (i_g * tl.num_programs(0) + i) * RANGE
            store_factors(x, prep, b_scale, FIRST, RANGE, SPAN, 2048)


def forward(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    G: Geometry,
    c: RuleArgs,
    E: Pooling | None = None,
    T: Tiling | None = None,
    summed: bool = False,
) -> tuple[ForwardState, PendingPool | None]:
    """u and its statistics, or y too: two launches, three with pre_triangle or a rank; one without
    an update.

    With ``E`` also what is to be pooled. ``T`` is that of the update to come; without one there are
    neither statistics nor y. ``summed``: activities are, for a bias or the caller.
    """
    learns, M = T is not None, x.shape[0] * G.pixels
    competes = learns and c.flags.competes
    centred = E is not None and E.CENTRE
    arch = configs.architecture(x.device)
    halves = learns and not c.flags.LEBESGUE and c.scalars.x_scale > 0 and configs.halves(G, M, w)
    dtype = torch.float16 if halves else x.dtype
    config = configs.forward(G, M, dtype, arch, learns, centred)
    ranks = learns and c.flags.RANKS
    apart = c.flags.PRE_TRIANGLE or ranks
    fuse_activity = learns and not apart and configs.fuse_activity(G, w, config, x.device, competes)
    rows, columns = -(-M // config.BM), -(-G.K // config.BN)
    tiles = 1 if apart else columns
    waits = fuse_activity and competes and tiles > 1

    u = new_map(x, G, G.OH, G.OW)
    u_in_registers = fuse_activity and configs.u_in_registers(config, dtype, arch, c.flags.ACTIVITY)
    low = x.dtype != torch.float32 and (c.flags.PRE_TRIANGLE or (learns and not u_in_registers))
    u_sums = x.new_empty((G.GROUPS, tiles, M), dtype=torch.float32) if centred else None
    pre = PreActivations(u, torch.empty_like(u) if low else None, u_sums)
    left = competes and (tiles > 1 or not fuse_activity)
    stats = new_statistics(x, G, tiles, c.flags) if left else Statistics()
    prep, act = NOTHING_PREPARED, NO_ACTIVITY
    if learns:
        prep = prepare(x, w, G, c, T, G.GROUPS * rows if waits else 0, halves)
    if fuse_activity:
        act = new_activity(x, u, G, c, rows, prep.y_absmax)
    scales = prep if fuse_activity and prep.x_absmax is not None else NOTHING_PREPARED
    factors = (prep.x0, prep.w16) if halves else (x, w)
    launch.launch(
        forward_kernel,
        (rows * columns, G.GROUPS),
        config,
        **_common(*factors, bias, G._replace(WEIGHT_LINEAR=G.WEIGHT_LINEAR or halves), c, M),
        SPAN=span(x),
        pre=pre._replace(u_sums=None) if apart else pre,
        out=None,
        stats=stats._replace(anti=None),
        act=act,
        prep=Prepared(
            *(scales.x_absmax, scales.x0, scales.x1, None, prep.w_inverse),
            row_counters=prep.row_counters,
        ),
        signals=c.heard(prep) if fuse_activity else Signals() if apart else c.handicaps(prep),
        E=None,
        F=_constants(dtype, x.device, config)._replace(
            COMPETE=competes and not apart,
            SUMMED=summed,
            FILTERS_ONCE=not fuse_activity and w.numel() > x.numel(),
            U_IN_REGISTERS=u_in_registers,
            WAITS=waits,
            ABSMAX_PROGRAMS=scales.absmax_programs,
        ),
    )
    state = ForwardState(pre, stats, act, prep, tiles)
    if apart:
        compete(state, M, G, c, competes)
    if E is None:
        return state, None
    out = new_map(x, G, E.OY, E.OX)
    return state, pending(u, pre.u_sums, out, M, G, E, parts=tiles * G.GROUPS)


def forward_pooled(
    x: Tensor, w: Tensor, bias: Tensor | None, G: Geometry, c: RuleArgs, E: Pooling
) -> tuple[Tensor, PendingPool | None] | None:
    """A block that does not learn, pooled tile by tile: no u. None where the tile does not fit."""
    rows = x.shape[0] * E.NY * E.NX * E.block
    config = configs.in_tile(G, x.dtype)
    if config is None or c.flags.PRE_TRIANGLE or not E.in_tile(G):
        return None
    out, rest = new_blocks(x, G, E)
    launch.launch(
        forward_kernel,
        (-(-rows // config.BM), G.GROUPS),
        config,
        **_common(x, w, bias, G, c, x.shape[0] * G.pixels),
        SPAN=0,
        pre=PreActivations(),
        out=out,
        stats=Statistics(),
        act=NO_ACTIVITY,
        prep=NOTHING_PREPARED,
        signals=Signals(),
        E=E,
        F=_constants(x.dtype, x.device, config)._replace(WHOLE=rest is None),
    )
    return out, rest


def _common(x: Tensor, w: Tensor, bias: Tensor | None, G: Geometry, c: RuleArgs, M: int) -> dict:
    return {"x": x, "w": w, "bias": bias, "M": M, "scalars": c.scalars, "G": G, "C": c.flags}


def _constants(dtype: torch.dtype, device: torch.device, config: Config) -> ForwardConstants:
    turned = configs.without_matrix_units(dtype, configs.architecture(device))
    return ForwardConstants(**config.tiles, PRECISION=configs.precision(dtype), TURNED=turned)
