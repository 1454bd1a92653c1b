"""The competition where a tile of u is not enough: a mean over all channels, a neuron by rank."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.operands import ForwardState, RuleArgs, Signals
from softhebb_fast.kernels.rules import rivals
from softhebb_fast.kernels.sync import begin
from softhebb_fast.kernels.tiles import (
    larger,
    load_u,
    of_rank,
    statistics,
    store_statistics,
    store_u,
    store_u_sums,
    u_offsets,
)


class CompeteConstants(NamedTuple):
    """What ``compete_kernel`` is compiled for; without COMPETE it leaves no statistics."""

    BM: int
    BN: int
    COMPETE: bool


@triton.jit
def compete_kernel(
    pre,
    stats,
    signals,
    M,
    scalars,
    rank,
    G: tl.constexpr,
    C: tl.constexpr,
    F: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """Statistics ``[GROUPS, M]`` of BM positions; BN covers the neurons of a group.

    With PRE_TRIANGLE u becomes ``relu(u - mean over all channels)`` first, in place. The neuron of
    rank ``rank`` goes to ``anti``, if that is given; equal neurons rank by their index.
    """
    begin(OVERLAPS)
    BM: tl.constexpr = F.BM
    o_m = tl.program_id(0) * BM + tl.arange(0, BM)
    o_k = tl.arange(0, F.BN)
    m = (o_m < M)[:, None] & (o_k < G.K)[None, :]
    b_mean = tl.zeros((BM,), tl.float32)
    if C.PRE_TRIANGLE:
        for i_g in range(G.GROUPS):
            o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
            b_mean += tl.sum(load_u(pre, o, m, 0.0), axis=1)
        b_mean = b_mean / (G.GROUPS * G.K)
    for i_g in range(G.GROUPS):
        o = u_offsets(i_g, o_m[:, None], o_k[None, :], G)
        b_u = load_u(pre, o, m, 0.0)
        if C.PRE_TRIANGLE:
            b_u = store_u(pre, o, m, larger(b_u - b_mean[:, None], 0.0))
        store_u_sums(pre, b_u, m, i_g * M + o_m, o_m < M)
        if F.COMPETE:
            b_u = rivals(b_u, signals, i_g, o_k, G, C)
            b_u = tl.where((o_k < G.K)[None, :], b_u, -float("inf"))
            b_top, b_win, b_log = statistics(b_u, scalars.t_log2e)
            store_statistics(stats, i_g * M + o_m, o_m < M, b_top, b_win, b_log)
        if stats.anti is not None:
            b_anti = of_rank(b_u, b_win, rank, o_k, G)
            tl.store(stats.anti + i_g * M + o_m, b_anti, mask=o_m < M)


def compete(state: ForwardState, positions: int, G: Geometry, c: RuleArgs, competes: bool) -> None:
    """The statistics of all neurons of a group: one launch."""
    config = configs.compete(G)
    launch.launch(
        compete_kernel,
        (-(-positions // config.BM),),
        config,
        pre=state.pre,
        stats=state.stats,
        signals=c.handicaps(state.prep) if competes else Signals(),
        M=positions,
        scalars=c.scalars,
        rank=c.rank,
        G=G,
        C=c.flags,
        F=CompeteConstants(config.BM, config.BN, competes),
    )
