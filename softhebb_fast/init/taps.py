"""Sparse deterministic filters that use other taps than the middle one, so that all differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, combinations, islice

import torch
from torch import Tensor

from softhebb_fast.init.common import check_positive, fan_in
from softhebb_fast.init.diversity import check_weight
from softhebb_fast.init.hadamard import hadamard_signs


@torch.no_grad()
def hadamard_taps_(weight: Tensor, radius: float = 25.0) -> Tensor:
    """ZerO's Hadamard rows, its twins on other taps; entries 0 and ±s.

    With 2^c = 2^ceil(log2 C), C input channels of a group, filter k is the Hadamard row k mod 2^c
    over the channels, on tap k // 2^c. Taps are counted from the middle one (R//2, S//2) outwards,
    so that the first 2^c filters are those of ZerO (Zhao et al. 2022) for K > C. Once every tap
    had its turn, pairs of taps follow, then triples. All filters differ and none is opposite to
    another. The constant s makes `radius` the root mean square of their norms: s = radius/√C, and
    every norm `radius`, as long as single taps suffice.

    Raises ValueError for a radius that is not positive and finite, and if there are more filters,
    K > 2^c (2^taps - 1): for linear weights and 1x1 kernels, as soon as K > 2^c.
    """
    check_weight(weight)
    radius = check_positive("radius", radius)
    filters, channels = weight.shape[:2]
    codes = 1 << (channels - 1).bit_length()
    taps = _from_the_middle(weight)
    if -(-filters // codes) >= 1 << len(taps):
        raise ValueError(
            f"weight must have at most {codes} x (2^{len(taps)} - 1) filters for every one to have "
            f"Hadamard signs or taps of its own; got {filters}; 'hadamard_patches' allows more"
        )
    signs = hadamard_signs(torch.arange(codes), torch.arange(channels))
    weight.zero_()
    ones = 0
    for block, chosen in zip(range(0, filters, codes), _subsets(len(taps)), strict=False):
        rows = signs[: filters - block].to(weight)
        for row, column in (taps[i] for i in chosen):
            _image(weight)[block : block + codes, :, row, column] = rows
        ones += rows.numel() * len(chosen)
    return weight.mul_(radius * math.sqrt(filters / ones))


@torch.no_grad()
def identity_taps_(weight: Tensor, radius: float = 25.0) -> Tensor:
    """Every filter looks at another single element of its patch; entries 0 and s.

    Filter k copies channel k mod C from tap k // C, taps counted from the middle one outwards, so
    that the first C filters are the identity with which ZerO begins (Zhao et al. 2022). Filters
    beyond the N elements of the patch see pairs of elements, then triples. All differ, and no entry
    is negative. The constant s makes `radius` the root mean square of their norms: s = radius for
    K <= N.

    Raises ValueError for a radius that is not positive and finite, and for K >= 2^N filters.
    """
    check_weight(weight)
    radius = check_positive("radius", radius)
    filters, channels = weight.shape[:2]
    elements = fan_in(weight)
    if filters.bit_length() > elements:
        raise ValueError(
            f"weight must have fewer than 2^{elements} filters for every one to see other "
            f"elements of a patch of {elements}; got {filters}"
        )
    taps = _from_the_middle(weight)
    weight.zero_()
    ones = 0
    for k, chosen in enumerate(islice(_subsets(elements), filters)):
        for element in chosen:
            row, column = taps[element // channels]
            _image(weight)[k, element % channels, row, column] = 1.0
        ones += len(chosen)
    return weight.mul_(radius * math.sqrt(filters / ones))


def _image(weight: Tensor) -> Tensor:
    return weight if weight.dim() == 4 else weight.view(*weight.shape, 1, 1)


def _from_the_middle(weight: Tensor) -> list[tuple[int, int]]:
    """All taps (row, column), by their distance from the middle one, then by row and column."""
    height, width = _image(weight).shape[2:]
    taps = [(row, column) for row in range(height) for column in range(width)]
    return sorted(taps, key=lambda tap: (tap[0] - height // 2) ** 2 + (tap[1] - width // 2) ** 2)


def _subsets(size: int) -> Iterator[tuple[int, ...]]:
    """All subsets of range(size) but the empty one, the small ones first."""
    return chain.from_iterable(combinations(range(size), n) for n in range(1, size + 1))
