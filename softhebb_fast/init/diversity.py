"""How different the filters of a layer are: their number, angles, rank and norms.

A weight is [K, C/g, R, S] (convolution) or [K, N] (linear); row k is the filter of neuron k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Diversity:
    """How different the filters of one weight are; see `diversity`.

    Fields: `filters`, `distinct`, `mean_abs_cosine`, `rank`, `norm_mean`, `norm_min`, `norm_max`,
    `nonzeros`, `numel`.
    """

    filters: int
    distinct: int
    mean_abs_cosine: float
    rank: int
    norm_mean: float
    norm_min: float
    norm_max: float
    nonzeros: int
    numel: int


@torch.no_grad()
def distinct_filters(weight: Tensor) -> int:
    """The number of different filters, compared entry by entry without tolerance (-0 equals 0)."""
    check_weight(weight)
    return torch.unique(weight.flatten(1), dim=0).shape[0]


@torch.no_grad()
def diversity(weight: Tensor, block: int = 1024) -> Diversity:
    """Count, angles, rank and 2-norms of the filters of `weight`.

    `mean_abs_cosine` is the mean of |cos| over the K(K-1)/2 pairs (0 without pairs); a zero
    filter counts as orthogonal to all others. It is computed `block` filters at a time. `rank` is
    numerical (`torch.linalg.matrix_rank`) and takes a singular value decomposition: seconds for
    1536 filters, much longer beyond; `distinct_filters` alone is cheap.

    Raises ValueError if the weight holds NaN or infinity, for which no rank exists.
    """
    check_weight(weight)
    rows = weight.detach().flatten(1)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if not rows.isfinite().all():
        raise ValueError("weight must be finite to measure its diversity; it has NaN or infinity")
    norms = torch.linalg.vector_norm(rows, dim=1)
    units = rows / norms.where(norms > 0, 1).unsqueeze(1)
    count = rows.shape[0]
    cosines = sum(
        (units[start : start + block] @ units[start:].T)
        .abs_()
        .clamp_(max=1)
        .triu_(diagonal=1)
        .sum(dtype=torch.float64)
        .item()
        for start in range(0, count, block)
    )
    return Diversity(
        filters=count,
        distinct=distinct_filters(weight),
        mean_abs_cosine=cosines / max(count * (count - 1) // 2, 1),
        rank=int(torch.linalg.matrix_rank(rows)),
        norm_mean=norms.mean().item(),
        norm_min=norms.min().item(),
        norm_max=norms.max().item(),
        nonzeros=int(rows.count_nonzero()),
        numel=rows.numel(),
    )


def check_weight(weight: Tensor) -> None:
    """Raise TypeError or ValueError unless `weight` is what this module and `init` work on."""
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        got = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise TypeError(f"weight must be a floating-point tensor; got {got}")
    if weight.dim() not in (2, 4) or weight.numel() == 0:
        raise ValueError(
            f"weight must be non-empty, [K, N] or [K, C/g, R, S]; got {tuple(weight.shape)}"
        )
