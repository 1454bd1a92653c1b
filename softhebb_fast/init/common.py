"""What the initialisations share: sizes, the middle tap, draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from softhebb_fast.scalars import number


def check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")


def check_positive(name: str, value: float) -> float:
    try:
        found = number(name, value)
    except TypeError:
        found = math.nan
    if not 0 < found < math.inf:
        raise ValueError(f"{name} must be a positive, finite number; got {value!r}")
    return found


def fan_in(weight: Tensor) -> int:
    return math.prod(weight.shape[1:])


def centre(weight: Tensor) -> Tensor:
    """The [K, C/g] view of the middle tap; a linear weight is its own."""
    if weight.dim() == 2:
        return weight
    return weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2]


def draw(sampler: Callable, like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is not None and not hasattr(generator, "device"):
        raise TypeError(f"generator must be a torch.Generator or None; got {generator!r}")
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(
            f"generator must live on the CPU, where all draws are made; got {generator.device}"
        )
    if like.is_meta:
        return torch.empty_like(like)
    return sampler(like.shape, generator=generator, device="cpu", dtype=torch.float32)
