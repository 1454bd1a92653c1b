"""Batch normalisation in training, of maps whose channels are contiguous: two launches.

The first leaves mean and sum of squared distances of parts of the rows ``[M, C]``; the programs of
the second merge those of their channels, which are few, and none waits for another.

Sources: Ioffe & Szegedy 2015 (algorithm 1); Chan, Golub & LeVeque 1983 (merging).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from softhebb_fast.kernels import launch
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.sync import begin

VALUES = 4096  # of a tile
MOST_PARTS = 32


@triton.jit
def moments_kernel(
    x,
    parts,
    M,
    C: tl.constexpr,
    PARTS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """Mean and sum of squared distances of BN channels in one of PARTS: ``parts [2, PARTS, C]``."""
    begin(OVERLAPS)
    i_p = tl.program_id(0)
    o_c = tl.program_id(1) * BN + tl.arange(0, BN)
    m_c = o_c < C
    RANGE = tl.cdiv(tl.cdiv(M, BM), PARTS) * BM
    b_mean = tl.zeros((BN,), tl.float32)
    b_far = tl.zeros((BN,), tl.float32)
    END = tl.minimum((i_p + 1) * RANGE, M)
    for i_m in range(i_p * RANGE, END, BM):
        o_m = i_m + tl.arange(0, BM)
        m = (o_m < END)[:, None] & m_c[None, :]
        o = o_m.to(tl.int64)[:, None] * C + o_c[None, :]
        b_x = tl.load(x + o, mask=m, other=0.0).to(tl.float32)
        SEEN = (i_m - i_p * RANGE).to(tl.float32)
        NEW = tl.minimum(END - i_m, BM).to(tl.float32)
        b_own = tl.sum(b_x, axis=0) / NEW
        b_d = tl.where(m, b_x - b_own[None, :], 0.0)
        b_step = b_own - b_mean
        b_far += tl.sum(b_d * b_d, axis=0) + b_step * b_step * (SEEN * NEW / (SEEN + NEW))
        b_mean += b_step * (NEW / (SEEN + NEW))
    tl.store(parts + i_p * C + o_c, b_mean, mask=m_c)
    tl.store(parts + (PARTS + i_p) * C + o_c, b_far, mask=m_c)


@triton.jit
def normalise_kernel(
    x,
    parts,
    running_mean,
    running_var,
    batches,
    y,
    M,
    momentum,
    eps,
    C: tl.constexpr,
    PARTS: tl.constexpr,
    RANGED: tl.constexpr,
    BP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """A tile ``[BM, BN]`` of y; the first row of programs also moves the running statistics.

    RANGED is the number of rows of a tile of the moments.
    """
    begin(OVERLAPS)
    i_m = tl.program_id(0)
    o_c = tl.program_id(1) * BN + tl.arange(0, BN)
    o_p = tl.arange(0, BP)[:, None]
    m_c = o_c < C
    m_p = (o_p < PARTS) & m_c[None, :]
    RANGE = tl.cdiv(tl.cdiv(M, RANGED), PARTS) * RANGED
    b_n = tl.maximum(tl.minimum(M - o_p * RANGE, RANGE), 0).to(tl.float32)
    b_m = tl.load(parts + o_p * C + o_c[None, :], mask=m_p, other=0.0)
    b_f = tl.load(parts + (PARTS + o_p) * C + o_c[None, :], mask=m_p, other=0.0)
    b_n = tl.where(o_p < PARTS, b_n, 0.0)
    b_mean = tl.sum(b_n * b_m, axis=0) / M
    b_d = b_m - b_mean[None, :]
    b_far = tl.sum(b_f + b_n * b_d * b_d, axis=0)
    b_scale = 1 / tl.sqrt(b_far / M + eps)
    o_m = i_m * BM + tl.arange(0, BM)
    m = (o_m < M)[:, None] & m_c[None, :]
    o = o_m.to(tl.int64)[:, None] * C + o_c[None, :]
    b_x = tl.load(x + o, mask=m, other=0.0).to(tl.float32)
    b_y = (b_x - b_mean[None, :]) * b_scale[None, :]
    tl.store(y + o, b_y.to(y.dtype.element_ty), mask=m)
    if (running_mean is not None) & (i_m == 0):
        b_old = tl.load(running_mean + o_c, mask=m_c, other=0.0)
        tl.store(running_mean + o_c, b_old + momentum * (b_mean - b_old), mask=m_c)
        b_old = tl.load(running_var + o_c, mask=m_c, other=0.0)
        b_new = b_far / tl.maximum(M - 1, 1)
        tl.store(running_var + o_c, b_old + momentum * (b_new - b_old), mask=m_c)
        if tl.program_id(1) == 0:
            tl.store(batches, tl.load(batches) + 1)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    batches: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """``x [B, C, H, W]``, channels last, normalised over its batch; like ``x``.

    float32, float16 or bfloat16. ``running_mean`` and ``running_var`` float32 ``[C]``, all or none,
    move by ``momentum`` in place, and ``batches``, int64, counts one more.
    """
    channels, M = x.shape[1], x.numel() // x.shape[1]
    y = torch.empty_like(x)
    wide = min(128, max(16, triton.next_power_of_2(channels)))
    config = Config(VALUES // wide, wide, 0, 4, 1)
    tiles = -(-M // config.BM)
    parts = -(-tiles // -(-tiles // MOST_PARTS))
    room = x.new_empty((2, parts, channels), dtype=torch.float32)
    columns = -(-channels // wide)
    common = {"x": x, "parts": room, "M": M}
    common |= {"C": channels, "PARTS": parts, "BM": config.BM, "BN": wide}
    launch.launch(moments_kernel, (parts, columns), config, **common)
    launch.launch(
        normalise_kernel,
        (tiles, columns),
        config,
        **common,
        running_mean=running_mean,
        running_var=running_var,
        batches=batches,
        y=y,
        momentum=momentum,
        eps=eps,
        RANGED=config.BM,
        BP=triton.next_power_of_2(parts),
    )
    return y
