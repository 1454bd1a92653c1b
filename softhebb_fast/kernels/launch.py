"""Launching a kernel on the device of its arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from softhebb_fast.kernels.configs import Config


def launch(kernel: Any, grid: tuple[int, ...], config: Config, **arguments: Any) -> None:
    """Launch ``kernel`` with arguments by name, of which some are tuples."""
    device = next(t.device for t in _tensors(arguments.values()))
    guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with guard:
        kernel[grid](**arguments, **options(config, arguments))


def options(config: Config, arguments: dict[str, Any]) -> dict[str, Any]:
    """How a kernel is compiled: fused multiply-adds whatever Triton's default, and the assertion
    that ends a wait where its programs wait."""
    found = {"num_warps": config.warps, "num_stages": config.stages, "enable_fp_fusion": True}
    if getattr(arguments.get("F"), "WAITS", False):
        found |= {"debug": True, "sanitize_overflow": False}
    return found


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)
