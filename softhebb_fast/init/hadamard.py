"""Rows of a Sylvester-Hadamard matrix laid over whole patches: deterministic and all distinct."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from softhebb_fast.init.common import check_positive, fan_in
from softhebb_fast.init.diversity import check_weight

SIGNS = ("walsh", "rudin_shapiro")


@torch.no_grad()
def hadamard_patches_(weight: Tensor, radius: float = 25.0, signs: str = "walsh") -> Tensor:
    """Every filter another Hadamard row over all its taps and channels; entries ±radius/√N.

    Filter k is row k + 1 of the Sylvester-Hadamard matrix (row 0, which is constant, is left out)
    and element n of its patch is column n: (-1)^popcount((k + 1) & n) · radius/√N. Where the first
    N columns cannot tell K filters apart, K >= 2^b with b the bits of N - 1, the columns are 0,
    then the powers of two below 2^m, m the bits of K, and then a, 2a, 3a, ... mod 2^m with a the
    odd number next to 2^m/φ (the golden ratio).

    With `signs` "rudin_shapiro" element n of every filter has its sign multiplied by the n-th of
    the Rudin-Shapiro sequence, (-1)^popcount(n & n >> 1). Walsh rows are square waves: each lies
    in one narrow band of frequencies, and images have next to nothing in most of them. Times that
    sequence, every row has a flat spectrum, as random signs have, and all see as much.

    No two filters are equal or opposite, and every norm is `radius`. A relative of ZerO (Zhao et
    al. 2022) without its duplicates and without zeros; the flat rows are after Golay (1951),
    Shapiro (1951) and Rudin (1959).

    Raises ValueError for a radius that is not positive and finite, other signs, and K >= 2^(N-1)
    filters, which N signs cannot tell apart.
    """
    check_weight(weight)
    radius = check_positive("radius", radius)
    rows = patch_signs(weight.shape[0], fan_in(weight), signs, weight.device)
    return weight.copy_(rows.mul_(radius / math.sqrt(rows.shape[1])).view_as(weight))


@torch.no_grad()
def walsh_binary_(weight: Tensor, radius: float = 25.0, signs: str = "walsh") -> Tensor:
    """The rows of `hadamard_patches_` with 0 in place of -1; entries 0 and radius/√(N/2).

    About half of the entries of a filter are zero, so that norms lie around `radius`. No two
    filters are equal; all have positive sums, as "random_binary" of Le, Xu, Zhuang.

    Raises as `hadamard_patches_`.
    """
    check_weight(weight)
    radius = check_positive("radius", radius)
    rows = patch_signs(weight.shape[0], fan_in(weight), signs, weight.device)
    return weight.copy_((rows > 0).view_as(weight)).mul_(radius / math.sqrt(rows.shape[1] / 2))


def patch_signs(filters: int, elements: int, signs: str, device: torch.device) -> Tensor:
    """The signs ``[filters, elements]`` of `hadamard_patches_`."""
    if signs not in SIGNS:
        raise ValueError(f"signs must be one of {', '.join(SIGNS)}; got {signs!r}")
    digits = filters.bit_length()
    if digits >= elements:
        raise ValueError(
            f"weight must have fewer than 2^{elements - 1} filters for every one of {elements} "
            f"elements to be another Hadamard row; got {filters}"
        )
    columns = list(range(elements))
    if digits > (elements - 1).bit_length():
        step = int((1 << digits) * (math.sqrt(5) - 1) / 2) | 1
        columns = [0] + [1 << digit for digit in range(digits)]
        columns += [n * step % (1 << digits) for n in range(1, elements - digits)]
    rows = torch.arange(1, filters + 1, device=device)
    walsh = hadamard_signs(rows, torch.tensor(columns, device=device))
    return walsh if signs == "walsh" else walsh * rudin_shapiro(elements, device)


def hadamard_signs(rows: Tensor, columns: Tensor) -> Tensor:
    """H[i, j] = (-1)^popcount(i & j), where the popcount is the product of the binary digits."""
    return _signs(_digits(rows) @ _digits(columns).T)


def rudin_shapiro(length: int, device: torch.device | None = None) -> Tensor:
    """The first signs of the Rudin-Shapiro sequence: (-1)^(number of 11 in the binary n)."""
    n = torch.arange(length, device=device)
    return _signs((_digits(n) * _digits(n >> 1)).sum(1))


def _digits(index: Tensor) -> Tensor:
    return (index.unsqueeze(1) >> torch.arange(24, device=index.device) & 1).float()


def _signs(counts: Tensor) -> Tensor:
    return 1 - 2 * counts.fmod(2)
