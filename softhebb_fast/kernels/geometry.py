"""The geometry of a layer, known when a kernel is compiled: sizes, strides, order of the taps."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from softhebb_fast.options import CONVOLUTION, Convolution

CHUNKS = (128, 64, 32, 16)  # channels: a tile of as many or fewer shows one tap
Sizes = tuple[int, ...]
Pair = tuple[int, int]
SHAPES = 1024  # of tensors and layers, whose geometry and configurations are looked up again


class Geometry(NamedTuple):
    """Everything about a layer but its batch. Sizes and strides count elements.

    A patch is numbered ``p = (c, r, s)``, or, where the channels of x are contiguous
    (``CHANNELS_LAST``), ``(c // CHUNK, r, s, c % CHUNK)``: in both cases neighbours in p are
    neighbours in memory as far as possible, and a tile shows a few taps of whole runs of channels.
    """

    GROUPS: int
    K: int  # neurons of a group
    C: int  # channels of a group
    R: int
    S: int
    H: int
    W: int
    OH: int
    OW: int
    STRIDE_Y: int
    STRIDE_X: int
    PAD_Y: int
    PAD_X: int
    DILATION_Y: int
    DILATION_X: int
    PADDING: str
    XB: int
    XC: int
    XY: int
    XX: int
    WK: int
    WC: int
    WR: int
    WS: int
    CHUNK: int  # channels whose taps come together
    ALIGNED: int  # a power of two to 16 that divides a group's channels and the strides of x
    CHANNELS_LAST: bool  # of x: decides the order of p
    U_CHANNELS_LAST: bool
    WEIGHT_LINEAR: bool  # the weight is dense in the order of p
    WIDE: bool  # some tensor needs 64-bit offsets
    P: int  # elements of a patch

    @property
    def pixels(self) -> int:
        return self.OH * self.OW

    @property
    def neurons(self) -> int:
        return self.GROUPS * self.K


def conv2d_geometry(x: Tensor, weight: Tensor, c: Convolution) -> Geometry:
    """Geometry of ``x [B, C, H, W]`` under ``weight [K, C / groups, R, S]``."""
    return _geometry(
        x.shape,
        x.stride(),
        weight.shape,
        weight.stride(),
        c.groups,
        (c.stride, c.padding, c.dilation),
        c.padding_mode,
    )


@functools.lru_cache(SHAPES)
def _geometry(
    sizes: Sizes,
    strides: Sizes,
    weight_sizes: Sizes,
    weight_strides: Sizes,
    groups: int,
    steps: tuple[Pair, Pair, Pair],
    padding_mode: str,
) -> Geometry:
    samples, _, height, width = sizes
    neurons, channels, rows, columns = weight_sizes
    stride, padding, dilation = steps
    out_h, out_w = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip((height, width), (rows, columns), *steps, strict=True)
    )
    last = strides[1] == 1
    taps = rows * columns
    chunk = next((n for n in CHUNKS if taps > 1 and channels % n == 0), channels)
    order = (taps * channels, 1, columns * channels, channels)
    if not last:
        order = (taps * channels, taps, columns, 1)
    spans = (_span(sizes, strides), _span(weight_sizes, weight_strides))
    layout = suggest_memory_format(torch.empty_strided(sizes, strides, device="meta"))
    return Geometry(
        groups,
        neurons // groups,
        channels,
        rows,
        columns,
        height,
        width,
        out_h,
        out_w,
        *stride,
        *padding,
        *dilation,
        padding_mode if any(padding) else "none",
        *strides,
        *weight_strides,
        chunk,
        math.gcd(16, channels, *(n for n in strides if n != 1)),
        last,
        layout == torch.channels_last,
        _matches(weight_sizes, weight_strides, order) and (chunk == channels or not last),
        max(samples * neurons * out_h * out_w, *spans) >= 2**31,
        channels * taps,
    )


def linear_geometry(x: Tensor, weight: Tensor) -> Geometry:
    """Geometry of ``x [B, N]`` under ``weight [K, N]``: a convolution of 1x1 images."""
    x, weight = (t.unsqueeze(2).unsqueeze(3) for t in (x, weight))
    return conv2d_geometry(x, weight, CONVOLUTION)


def _matches(sizes: Sizes, strides: Sizes, wanted: Sizes) -> bool:
    return all(n == 1 or a == b for n, a, b in zip(sizes, strides, wanted, strict=True))


def compact(x: Tensor) -> Tensor:
    """x, copied where it spans more gaps than elements: scratch is as long as what x spans."""
    return x.clone() if span(x) > 2 * x.numel() else x


def span(tensor: Tensor) -> int:
    """Elements of memory from the first of a tensor to its last."""
    return _span(tensor.shape, tensor.stride())


@functools.lru_cache(SHAPES)
def _span(sizes: Sizes, strides: Sizes) -> int:
    return 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
