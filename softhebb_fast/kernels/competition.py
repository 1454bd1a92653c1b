"""The competition where a tile of u is not enough: a mean over all channels, a neuron by rank."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.operands import ForwardState, Rule
from softhebb_fast.kernels.tiles import larger, load_u, statistics, store_u, u_offsets


@triton.jit
def compete_kernel(
    u,
    u_low,
    u_sums,
    win,
    anti,
    lse,
    M,
    t_log2e,
    rank,
    G: tl.constexpr,
    PRE_TRIANGLE: tl.constexpr,
    COMPETE: tl.constexpr,
    RANK: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Statistics ``[GROUPS, M]`` of BM positions; BN covers the neurons of a group.

    With PRE_TRIANGLE u becomes ``relu(u - mean over all channels)`` first, in place. With RANK the
    neuron of rank ``rank`` goes to ``anti``; equal neurons rank by their index. ``u_sums [GROUPS,
    M]``, if given, takes the sums of u over neurons.
    """
    o_m = tl.program_id(0) * BM + tl.arange(0, BM)
    o_k = tl.arange(0, BN)
    m = (o_m < M)[:, None] & (o_k < G.K)[None, :]
    b_mean = tl.zeros((BM,), tl.float32)
    if PRE_TRIANGLE:
        for i_g in range(G.GROUPS):
            o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
            b_mean += tl.sum(load_u(u, u_low, o, m, 0.0), axis=1)
        b_mean = b_mean / (G.GROUPS * G.K)
    for i_g in range(G.GROUPS):
        o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
        b_u = load_u(u, u_low, o, m, 0.0)
        if PRE_TRIANGLE:
            b_u = larger(b_u - b_mean[:, None], 0.0)
            store_u(u, u_low, o, m, b_u)
        if u_sums is not None:
            b_total = tl.sum(tl.where(m, b_u, 0.0), axis=1)
            tl.store(u_sums + i_g * M + o_m, b_total, mask=o_m < M)
        if COMPETE:
            b_u = tl.where((o_k < G.K)[None, :], b_u, -float("inf"))
            _, b_win, b_lse = statistics(b_u, t_log2e)
            tl.store(win + i_g * M + o_m, b_win, mask=o_m < M)
            tl.store(lse + i_g * M + o_m, b_lse, mask=o_m < M)
        if RANK:
            b_anti = b_win
            for _ in range(1, rank):
                b_u = tl.where(o_k[None, :] == b_anti[:, None], -float("inf"), b_u)
                _, b_anti = tl.max(b_u, axis=1, return_indices=True)
            tl.store(anti + i_g * M + o_m, b_anti, mask=o_m < M)


def compete(
    c: ForwardState, u_sums: Tensor | None, positions: int, G: Geometry, rule: Rule, learns: bool
) -> None:
    config = configs.compete(G)
    launch.launch(
        compete_kernel,
        (-(-positions // config.BM),),
        (c.u, c.u_low, u_sums, c.win, c.anti, c.lse, positions, rule.t_log2e, rule.rank),
        {
            "G": G,
            "PRE_TRIANGLE": rule.pre_triangle,
            "COMPETE": learns,
            "RANK": c.anti is not None,
            "BM": config.BM,
            "BN": config.BN,
        },
        config,
    )
