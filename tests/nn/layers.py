"""One small layer of every kind, and what it computes in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from softhebb_fast import SoftHebbConv1d, SoftHebbConv2d, SoftHebbLinear

IN_PLACE = {"update": "in_place", "lr": 0.1}
LAYERS = {
    "conv2d": (lambda **o: SoftHebbConv2d(3, 8, 3, padding=1, **o), (4, 3, 6, 6)),
    "conv1d": (lambda **o: SoftHebbConv1d(3, 8, 3, padding=1, **o), (4, 3, 9)),
    "linear": (lambda **o: SoftHebbLinear(10, 8, **o), (6, 10)),
}


def make(kind: str, seed: int = 0, **options) -> nn.Module:
    options = {"radius": 3.0, "t_invert": 2.0, **options}
    return LAYERS[kind][0](generator=torch.Generator().manual_seed(seed), **options)


def batch(kind: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(LAYERS[kind][1], generator=generator, dtype=torch.float64).to(dtype)


def product(layer: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the layer computes, in plain PyTorch."""
    if isinstance(layer, SoftHebbLinear):
        return F.linear(x, weight, layer.bias)
    if isinstance(layer, SoftHebbConv1d):
        return F.conv1d(F.pad(x, (1, 1), "reflect"), weight.squeeze(2), layer.bias)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), weight, layer.bias)


def moved(layer: nn.Module, start: torch.Tensor) -> bool:
    return not torch.equal(layer.weight, start)
