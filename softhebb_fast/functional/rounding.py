"""Sums in 16 bits that keep small terms on average."""

from __future__ import annotations

import torch
from torch import Tensor

SHORT = (torch.float16, torch.bfloat16)


def add_(to: Tensor, step: Tensor, rounding: str) -> Tensor:
    """``to += step`` in place, rounded as ``rounding`` of ``kinds.ROUNDINGS`` says."""
    if rounding == "nearest" or to.dtype not in SHORT:
        return to.add_(step)
    return to.copy_(stochastically_rounded(to.float() + step, to.dtype))


def stochastically_rounded(value: Tensor, dtype: torch.dtype) -> Tensor:
    """float32 ``value`` as one of its two neighbours in a 16-bit ``dtype``.

    Each is taken with a probability that makes the mean ``value``. What is not finite stays so.
    """
    near = value.to(dtype)
    error = value - near.float()
    infinity = torch.full_like(near, float("inf"))
    far = torch.nextafter(near, torch.where(error > 0, infinity, -infinity))
    part = error / (far.float() - near.float())
    return torch.where(torch.rand_like(value) < part, far, near)
