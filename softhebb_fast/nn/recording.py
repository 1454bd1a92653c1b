"""Whether a forward is being recorded, to run where this package may be missing."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from softhebb_fast.reference import convolve


def recorded(x: Tensor | fx.Proxy) -> bool:
    """Whether the forward of ``x`` is traced or exported, so that plain operators are wanted.

    True inside ``torch.jit.trace``, ``torch.export``, ``torch.onnx.export`` and ``torch.fx``'s
    symbolic tracing, False inside ``torch.compile``.
    """
    # The flag itself: torch.compile of torch 2.11 takes torch.compiler.is_exporting() for True.
    flag = torch.compiler._is_exporting_flag
    return flag or torch.jit.is_tracing() or isinstance(x, fx.Proxy)


def convolution_of(x: Tensor | fx.Proxy) -> Callable[..., Tensor]:
    """The convolution of ``x``: torch's own operator where its forward is recorded."""
    return F.conv2d if recorded(x) else convolve


def check_input(x: Tensor | fx.Proxy) -> None:
    if not isinstance(x, (Tensor, fx.Proxy)):
        raise TypeError(f"x must be a torch.Tensor; got {type(x).__name__}")
