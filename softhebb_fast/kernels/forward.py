"""Forward: u = <x_p, W_k> as an implicit product of matrices, with winner, log-sum-exp and y.

y of a tile needs the statistics of all tiles of its positions. Programs that share positions are
neighbours, run at a time and leave their statistics to each other: none reads u again.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.activity import finish_tile, store_factors
from softhebb_fast.kernels.competition import compete
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.epilogue import block_positions, store_blocks
from softhebb_fast.kernels.float16_scale import store_absmax
from softhebb_fast.kernels.geometry import Geometry, span
from softhebb_fast.kernels.operands import (
    NO_ACTIVITY,
    ForwardState,
    Rule,
    Tiling,
    new_activity,
    new_x_absmax,
)
from softhebb_fast.kernels.pooling import PendingPool, Pooling, new_blocks, new_map
from softhebb_fast.kernels.sync import arrive, clear, wait
from softhebb_fast.kernels.tiles import (
    lebesgue,
    load_filters,
    load_patches,
    load_statistics,
    load_u,
    statistics,
    store_u,
    u_offsets,
)


@triton.jit
def forward_kernel(
    x,
    w,
    bias,
    u,
    u_low,
    u_sums,
    out,
    top,
    win,
    lse,
    x_absmax,
    y,
    y1,
    x0,
    x1,
    y_sums,
    dw_absmax,
    split_counters,
    row_counters,
    SIZE,
    SPAN,
    M,
    t_log2e,
    delta,
    y_scale,
    lebesgue_p,
    G: tl.constexpr,
    E: tl.constexpr,
    WHOLE: tl.constexpr,
    P: tl.constexpr,
    LEBESGUE: tl.constexpr,
    COMPETE: tl.constexpr,
    WTA: tl.constexpr,
    OVERWRITE: tl.constexpr,
    PRECISION: tl.constexpr,
    TURNED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BP: tl.constexpr,
    FILTERS_ONCE: tl.constexpr,
    ABSMAX_PROGRAMS: tl.constexpr,
    DENSE: tl.constexpr,
    COUNTERS: tl.constexpr,
    U_IN_REGISTERS: tl.constexpr,
):
    """A tile of u ``[BM, BN]`` and, if asked, its statistics ``[GROUPS, TILES, M]``.

    Programs that share filters are neighbours with FILTERS_ONCE, else those that share patches: one
    of the two comes from memory once. ``u_sums``, if given, takes the sums of u over neurons, and
    ``u`` may be None. With E all neurons are in one tile, which is pooled into ``out``, see
    ``store_blocks``. The first ABSMAX_PROGRAMS programs of all find the ``x_absmax`` of x instead.

    With ``y`` the program does the work of ``activity_kernel`` for its tile: those of the same
    positions count themselves in ``row_counters[1:]``, one counter a row of tiles, and those that
    find maxima in ``row_counters[0]``. After each row of tiles comes a program that waits for the
    latter and scales a share of x. A tile that is not HELD, as registers hold no more than u, is
    read back.
    """
    TILES: tl.constexpr = (G.K + BN - 1) // BN
    ROWS = tl.cdiv(M, BM)
    i = tl.program_id(0) - ABSMAX_PROGRAMS
    i_g = tl.program_id(1)
    if ABSMAX_PROGRAMS > 0:  # noqa: SIM102
        if i < 0:
            if i_g == 0:
                store_absmax(
                    x, x_absmax, i + ABSMAX_PROGRAMS, SIZE, G, DENSE, ABSMAX_PROGRAMS, 2048
                )
                if x0 is not None:
                    arrive(row_counters)
            return
    if FILTERS_ONCE:
        i_m = i % ROWS
        i_n = i // ROWS
    else:
        ABREAST: tl.constexpr = TILES if x0 is None else TILES + 1
        i_m = i // ABREAST
        i_n = i % ABREAST
    if x0 is not None:  # noqa: SIM102
        if i_n == TILES:
            if i_g == 0:
                wait(row_counters, ABSMAX_PROGRAMS)
                RANGE = tl.cdiv(tl.cdiv(SPAN, 2048), ROWS)
                for j in range(i_m * RANGE, (i_m + 1) * RANGE):
                    store_factors(x, x0, x1, x_absmax, j, SPAN, ABSMAX_PROGRAMS, 2048)
            return
    o = i_m * BM + tl.arange(0, BM)
    o_m = o if E is None else block_positions(o, M, G, E)
    o_k = i_n * BN + tl.arange(0, BN)
    b_u = tl.zeros((BM, BN), tl.float32)
    for i_p in range(0, P, BP):
        b_w = load_filters(w, i_g, o_k, i_p, G, P, BP, TURNED)  # [BN, BP]
        b_x = load_patches(x, i_g, o_m, M, i_p, G, P, BP)  # [BM, BP]
        if LEBESGUE:  # in 16 bits the power needs a second term, as u does
            b_e = lebesgue(b_w, lebesgue_p, LEBESGUE)
            b_w = b_e.to(b_x.dtype)
            if b_x.dtype != tl.float32 and (COMPETE or u_low is not None):
                b_l = (b_e - b_w.to(tl.float32)).to(b_x.dtype)
                b_u = tl.dot(b_x, tl.trans(b_l), b_u, input_precision=PRECISION)
        b_u = tl.dot(b_x, tl.trans(b_w), b_u, input_precision=PRECISION)
    m_k = o_k < G.K
    if bias is not None:
        b_b = tl.load(bias + i_g * G.K + o_k, mask=m_k, other=0.0)
        b_u += b_b.to(tl.float32)[None, :]
    m = (o_m < M)[:, None] & m_k[None, :]
    o_u = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
    o_s = (i_g * TILES + i_n) * M + o_m
    if u is not None:  # noqa: SIM102
        if not U_IN_REGISTERS:
            store_u(u, u_low, o_u, m, b_u)
    if COMPETE:
        b_top, b_win, b_lse = statistics(tl.where(m_k[None, :], b_u, -float("inf")), t_log2e)
        b_win += i_n * BN
        if TILES > 1 or y is None:
            tl.store(win + o_s, b_win, mask=o_m < M)
            tl.store(lse + o_s, b_lse, mask=o_m < M)
        if TILES > 1:
            tl.store(top + o_s, b_top, mask=o_m < M)
            if y is not None:
                arrive(row_counters + 1 + i_g * ROWS + i_m)
    if U_IN_REGISTERS:
        store_u(u, u_low, o_u, m, b_u, True)
    if E is not None:
        store_blocks(out, b_u, o, o_m, o_k, M, G, E, WHOLE)
    if u_sums is not None:
        b_total = tl.sum(tl.where(m_k[None, :], b_u, 0.0), axis=1)
        tl.store(u_sums + o_s, b_total, mask=o_m < M)
    if y is not None:
        if (i == 0) & (i_g == 0):
            clear(dw_absmax, G.GROUPS)
            if split_counters is not None:
                clear(split_counters, COUNTERS)
        if TILES > 1:
            HARD: tl.constexpr = WTA == "hard"
            wait(row_counters + 1 + i_g * ROWS + i_m, TILES)
            b_win, b_lse = load_statistics(top, win, lse, i_g, o_m, M, TILES, HARD)
        Y_SCALE = 1.0 if x0 is None else y_scale
        if U_IN_REGISTERS:
            finish_tile(
                *(y, y1, y_sums, i_m, i_g, o_m, M, o_k, b_u, b_win, b_lse, t_log2e, delta, Y_SCALE),
                *(WTA, OVERWRITE, bias is not None, G),
            )
        else:
            tl.debug_barrier()
            AT_ONCE: tl.constexpr = min(BN, 64)
            for i_k in range(i_n * BN, (i_n + 1) * BN, AT_ONCE):
                o_n = i_k + tl.arange(0, AT_ONCE)
                o_y = u_offsets(i_g, o_m[:, None], o_n[None, :], G)
                b_v = load_u(u, u_low, o_y, (o_m < M)[:, None] & (o_n < G.K)[None, :], 0.0, True)
                finish_tile(
                    *(
                        y,
                        y1,
                        y_sums,
                        i_m,
                        i_g,
                        o_m,
                        M,
                        o_n,
                        b_v,
                        b_win,
                        b_lse,
                        t_log2e,
                        delta,
                        Y_SCALE,
                    ),
                    *(WTA, OVERWRITE, bias is not None, G),
                )


def forward(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    G: Geometry,
    rule: Rule,
    E: Pooling | None = None,
    T: Tiling | None = None,
) -> tuple[ForwardState, PendingPool | None]:
    """u and its statistics, or y at once: one launch, two with pre_triangle or ``"hard_anti"``.

    With ``E`` also what is to be pooled. ``T`` is that of the update to come; without one there are
    neither statistics nor y.
    """
    learns = T is not None
    M = x.shape[0] * G.pixels
    summed = E is not None and E.CENTRE
    arch = configs.architecture(x.device)
    config = configs.forward(G, M, x.dtype, arch, learns, summed)
    apart = rule.pre_triangle or (learns and rule.wta == "hard_anti")
    fuse_activity = learns and not apart and configs.fuse_activity(G, w, config, x.device)
    rows, columns = -(-M // config.BM), -(-G.K // config.BN)
    tiles = 1 if apart else columns

    def new(dtype: torch.dtype) -> Tensor:
        return x.new_empty((G.GROUPS, tiles, M), dtype=dtype)

    u = new_map(x, G, G.OH, G.OW)
    u_in_registers = fuse_activity and configs.u_in_registers(config, x.dtype, arch)
    low = x.dtype != torch.float32 and (rule.pre_triangle or (learns and not u_in_registers))
    u_low = torch.empty_like(u) if low else None
    u_sums = new(torch.float32) if summed else None
    left = learns and (tiles > 1 or not fuse_activity)
    top = new(torch.float32) if left and tiles > 1 else None
    win = new(torch.int32) if left else None
    anti = torch.empty_like(win) if learns and rule.wta == "hard_anti" else None
    lse = new(torch.float32) if left else None
    x_absmax = new_x_absmax(x) if learns else None
    activity, row_counters = NO_ACTIVITY, None
    if fuse_activity:
        activity = new_activity(x, u, G, T, rows)
        counters = G.GROUPS * rows if tiles > 1 else 0
        if counters or x_absmax is not None:
            row_counters = x.new_zeros((1 + counters,), dtype=torch.int32)
    state = ForwardState(u, u_low, top, win, anti, lse, x_absmax, tiles, activity)
    abreast = columns if activity.x0 is None else columns + 1
    launch.launch(
        forward_kernel,
        (state.absmax_programs + rows * abreast, G.GROUPS),
        (
            *(x, w, bias, u, u_low, None if apart else u_sums, None, top, win, lse, x_absmax),
            *(*activity, row_counters, x.numel(), span(x)),
            *(M, rule.t_log2e, rule.delta, rule.y_scale, rule.lebesgue_p),
        ),
        {
            **_constants(x, G, rule, config),
            "ABSMAX_PROGRAMS": state.absmax_programs,
            "COUNTERS": activity.counters,
            "U_IN_REGISTERS": u_in_registers,
            "FILTERS_ONCE": not fuse_activity and w.numel() > x.numel(),
            "E": None,
            "WHOLE": False,
            "COMPETE": learns and not apart,
        },
        config,
    )
    if apart:
        compete(state, u_sums, M, G, rule, learns)
    pool = None
    if E is not None:
        pool = PendingPool(u, u_sums, new_map(x, G, E.OY, E.OX), M, E, parts=tiles * G.GROUPS)
    return state, pool


def forward_pooled(
    x: Tensor, w: Tensor, bias: Tensor | None, G: Geometry, rule: Rule, E: Pooling
) -> tuple[Tensor, PendingPool | None] | None:
    """A block that does not learn, pooled tile by tile: no u. None where the tile does not fit."""
    rows = x.shape[0] * E.NY * E.NX * E.block
    M = x.shape[0] * G.pixels
    config = configs.in_tile(G, x.dtype)
    if not E.block or G.GROUPS > 1 or config is None or rule.pre_triangle:
        return None
    out, rest = new_blocks(x, G, E)
    launch.launch(
        forward_kernel,
        (-(-rows // config.BM), 1),
        (
            *(x, w, bias, None, None, None, out, None, None, None, None),
            *(*NO_ACTIVITY, None, 0, 0),
            *(M, rule.t_log2e, rule.delta, rule.y_scale, rule.lebesgue_p),
        ),
        {
            **_constants(x, G, rule, config),
            "ABSMAX_PROGRAMS": 0,
            "COUNTERS": 0,
            "U_IN_REGISTERS": False,
            "FILTERS_ONCE": False,
            "E": E,
            "WHOLE": rest is None,
            "COMPETE": False,
        },
        config,
    )
    return out, rest


def _constants(x: Tensor, G: Geometry, rule: Rule, config: Config) -> dict:
    return {
        "G": G,
        "P": G.P,
        "WTA": rule.wta,
        "OVERWRITE": rule.overwrite,
        "LEBESGUE": rule.lebesgue_p != 2,
        "PRECISION": configs.precision(x.dtype),
        "TURNED": configs.without_matrix_units(x.dtype, configs.architecture(x.device)),
        "DENSE": span(x) == x.numel(),
        **config.tiles,
    }
