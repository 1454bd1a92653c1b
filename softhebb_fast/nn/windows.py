"""The patches that a convolution sees."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from softhebb_fast.checks import output_size, put_around

Pair = tuple[int, int]


def windows(
    x: Tensor,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    padding_mode: str = "zeros",
) -> Tensor:
    """All patches of images ``x [B, C, H, W]``: a view ``[B, OH, OW, C, R, S]``, no copy but of x.

    Raises ValueError for images smaller than the kernel.
    """
    x = put_around(x, padding, padding, padding_mode) if any(padding) else x
    size = output_size(tuple(x.shape[2:]), kernel, stride, (0, 0), dilation)
    if min(size) < 1:
        raise ValueError(
            f"x must hold a patch of {kernel[0]}x{kernel[1]}; got {tuple(x.shape)}, padded"
        )
    image, channel, row, column = x.stride()
    shape = (x.shape[0], *size, x.shape[1], *kernel)
    steps = (image, row * stride[0], column * stride[1])
    return x.as_strided(shape, (*steps, channel, row * dilation[0], column * dilation[1]))


def drawn(seen: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """``count`` of the patches ``seen [B, OH, OW, C, R, S]``, each at most once: ``[count, N]``.

    All of them, where they are fewer. ``generator`` is one of the CPU; None is torch's own.
    """
    positions = math.prod(seen.shape[:3])
    chosen = torch.randperm(positions, generator=generator)[:count].to(seen.device)
    rest, column = chosen // seen.shape[2], chosen % seen.shape[2]
    return seen[rest // seen.shape[1], rest % seen.shape[1], column].flatten(1)
