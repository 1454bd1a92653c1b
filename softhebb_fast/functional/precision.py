"""The arguments' dtypes decide in which precision is computed, whatever autocast says."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for this type of device."""
    kind = device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def as_called(device: torch.device) -> AbstractContextManager:
    """Autocast off: float32 is summed in float32."""
    return torch.autocast(device.type, enabled=False) if autocasts(device) else nullcontext()
