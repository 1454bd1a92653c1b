"""The next batch: rows of a data set in a given order, as a network takes them, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._prims_common import suggest_memory_format

from softhebb_fast.kernels import launch
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.sync import begin

CONFIG = Config(1, 1024, 0, 4, 1)


@triton.jit(do_not_specialize=["FIRST"])
def gather_kernel(
    images,
    labels,
    order,
    position,
    mean,
    std,
    x,
    y,
    LINE,
    FIRST,
    F: tl.constexpr,
    C: tl.constexpr,
    TURNED: tl.constexpr,
    BN: tl.constexpr,
    OVERLAPS: tl.constexpr = False,
):
    """BN values of row ``FIRST + i`` of the order from ``position`` on, and its label.

    Rows lie LINE apart. Bytes become ``byte / 255``, less the mean and by the std of their channel,
    if given. With TURNED rows are planes of channels and x has the channels last.
    """
    begin(OVERLAPS)
    i_b = tl.program_id(0)
    b_row = tl.load(order + tl.load(position) + FIRST + i_b)
    o = tl.program_id(1) * BN + tl.arange(0, BN)
    m = o < F
    o_i = o
    if TURNED:
        o_i = (o % C) * (F // C) + o // C
    b_x = tl.load(images + b_row * LINE + o_i, mask=m, other=0.0).to(tl.float32)
    if images.dtype.element_ty == tl.uint8:
        b_x = tl.div_rn(b_x, 255.0)
        if mean is not None:
            o_c = o % C
            b_mean = tl.load(mean + o_c, mask=m, other=0.0)
            b_x = tl.div_rn(b_x - b_mean, tl.load(std + o_c, mask=m, other=1.0))
    tl.store(x + i_b.to(tl.int64) * F + o, b_x, mask=m)
    if tl.program_id(1) == 0:
        tl.store(y + i_b, tl.load(labels + b_row))


def gather(
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    position: Tensor,
    mean: Tensor | None,
    std: Tensor | None,
    first: int,
    size: int,
) -> tuple[Tensor, Tensor]:
    """x float32 ``[size, ...]`` and labels ``[size]``, see ``ops.gather``."""
    planes = images.dtype == torch.uint8
    layout = torch.channels_last if planes else suggest_memory_format(images)
    shape = (size, *images.shape[1:])
    x = torch.empty(shape, dtype=torch.float32, device=images.device, memory_format=layout)
    y = torch.empty(size, dtype=labels.dtype, device=images.device)
    values = images[0].numel()
    launch.launch(
        gather_kernel,
        (size, -(-values // CONFIG.BN)),
        CONFIG,
        images=images,
        labels=labels,
        order=order,
        position=position,
        mean=mean,
        std=std,
        x=x,
        y=y,
        LINE=images.stride(0),
        FIRST=first,
        F=values,
        C=images.shape[1],
        TURNED=planes,
        BN=CONFIG.BN,
    )
    return x, y
