"""Launching a kernel on the device of its arguments."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from softhebb_fast.kernels.configs import Config


def launch(kernel, grid: tuple[int, ...], args: tuple, constants: dict, config: Config) -> None:
    device = next(a.device for a in args if isinstance(a, Tensor))
    guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with guard:
        kernel[grid](*args, **constants, num_warps=config.warps, num_stages=config.stages)
