"""What goes into the product: the dtype of the sums, padding, the weight of a Lebesgue norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Proxy

EPSILON = 1e-30


def accumulated(t: Tensor) -> Tensor:
    """``t`` in the dtype of the sums: float64 as it is, everything else in float32."""
    return t if t.dtype == torch.float64 else t.float()


def pad(x: Tensor, padding: tuple[int, int], mode: str) -> Tensor:
    """Pad rows by ``padding[0]`` and columns by ``padding[1]`` on both sides."""
    if padding == (0, 0):
        return x
    rows, columns = padding
    return F.pad(x, (columns, columns, rows, rows), "constant" if mode == "zeros" else mode)


def lebesgue_weight(weight: Tensor, lebesgue_p: float) -> Tensor:
    """``sign(W) |W|^(p - 1)``, which is W itself for p = 2."""
    if lebesgue_p == 2:
        return weight
    # Torch would round the exponent to 16 bits, too. Symbolic tracing knows no dtype.
    w = weight if isinstance(weight, Proxy) else accumulated(weight)
    return (w.sign() * w.abs() ** (lebesgue_p - 1)).to(weight.dtype)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """``F.conv2d`` of ``x [B, C, H, W]``.

    On the CPU that may read beyond images, in channels-last strides and with one channel a group,
    where outputs are one wide and the columns have a stride (seen with torch 2.13). Such a stride
    means nothing, and is taken as 1.
    """
    if x.is_cpu and weight.shape[1] == 1 and stride[1] > 1:
        room = x.shape[3] + 2 * padding[1] - dilation[1] * (weight.shape[3] - 1) - 1
        if room < stride[1]:
            u = F.conv2d(x, weight, bias, (stride[0], 1), padding, dilation, groups)
            return u[..., :1].clone() if room else u
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
