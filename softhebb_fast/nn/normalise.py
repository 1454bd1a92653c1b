"""Normalisations of a block's input, and the operator that does the same as a batch norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast import ops
from softhebb_fast.functional.autocast import autocasts
from softhebb_fast.nn.plain import plain
from softhebb_fast.ops.batch_norm import batch_norm

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class UnitLength(nn.Module):
    """``x / |x|`` of every sample ``[B, F]``, shape kept; a sample of zeros stays zero."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(x)``, by the fused operator where it computes just that and no gradient is wanted."""
    if not _fuses(norm, x):
        return norm(x)
    statistics = norm.running_mean, norm.running_var, norm.num_batches_tracked
    return batch_norm(x, *statistics, norm.momentum, norm.eps)


def bound_after(norm: nn.Module, x: Tensor) -> float | None:
    """What no |value| of ``norm(x)`` exceeds, if the batch's own statistics tell.

    Of n values less their mean by their deviation none exceeds the root of n - 1. A hundredth is
    for rounding.
    """
    if type(norm) is not nn.BatchNorm2d or norm.affine or x.dim() != 4:
        return None
    if not norm.training and norm.running_mean is not None:
        return None
    if not plain(norm):
        return None
    return 1.01 * max(1.0, x.numel() / x.shape[1]) ** 0.5


def _fuses(norm: nn.Module, x: Tensor) -> bool:
    if (
        type(norm) is not nn.BatchNorm2d
        or not norm.training
        or norm.affine
        or norm.momentum is None
    ):
        return False
    if x.dim() != 4 or x.shape[1] != norm.num_features or x.numel() <= x.shape[1]:
        return False  # torch says what is wrong
    if (torch.is_grad_enabled() and x.requires_grad) or autocasts(x.device):
        return False
    if x.dtype not in DTYPES or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    statistics = norm.running_mean
    if statistics is not None and statistics.dtype != torch.float32:
        return False
    return ops.why_not("triton", x.device.type) is None and plain(norm)
