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
