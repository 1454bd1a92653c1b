"""Launching a kernel on the device of its arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from softhebb_fast.environment import switched_on
from softhebb_fast.kernels import configs
from softhebb_fast.kernels.configs import Config

OVERLAP = "SOFTHEBB_FAST_OVERLAP"


def launch(kernel: Any, grid: tuple[int, ...], config: Config, **arguments: Any) -> None:
    """Launch ``kernel`` with arguments by name, of which some are tuples."""
    device = next(t.device for t in _tensors(arguments.values()))
    guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    if why_not_overlap(device) is None:
        arguments["OVERLAPS"] = True
    with guard:
        kernel[grid](**arguments, **options(config, arguments))


def why_not_overlap(device: torch.device) -> str | None:
    """Why no launch there begins before the one ahead of it ends, or None.

    Raises ValueError for a value of the variable that is neither 0 nor 1.
    """
    wanted = switched_on(OVERLAP, default=False)
    if device.type != "cuda" or configs.architecture(device) < 90:
        return "it takes compute capability 9.0 or later"
    return None if wanted else f"{OVERLAP}=1 would let them, which no GPU has tried"


def options(config: Config, arguments: dict[str, Any]) -> dict[str, Any]:
    """How a kernel is compiled: fused multiply-adds whatever Triton's default, the assertion that
    ends a wait where its programs wait, and as a launch that may begin before the one ahead ends.
    """
    found = {"num_warps": config.warps, "num_stages": config.stages, "enable_fp_fusion": True}
    if getattr(arguments.get("F"), "WAITS", False):
        found |= {"debug": True, "sanitize_overflow": False}
    if arguments.get("OVERLAPS", False):
        found["launch_pdl"] = True
    return found


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)
