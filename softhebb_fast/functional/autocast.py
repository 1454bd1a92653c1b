"""The arguments' dtypes decide in which precision is computed, whatever autocast says."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

# Asked once, because torch.compile of torch 2.11 cannot trace the question.
_KINDS = tuple(filter(torch.amp.is_autocast_available, ("cpu", "cuda", "hpu", "mps", "xpu")))


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for this type of device."""
    return device.type in _KINDS and torch.is_autocast_enabled(device.type)


def autocast_disabled(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast off: float32 is summed in float32."""
    return torch.autocast(device.type, enabled=False) if autocasts(device) else nullcontext()


def outside_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """The same for the device of ``x``; what is no tensor has none, and is refused inside."""
    return autocast_disabled(x.device) if isinstance(x, Tensor) else nullcontext()
