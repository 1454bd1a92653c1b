"""How far the channels of a model have come apart, weight by weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softhebb_fast.init.common import check_model
from softhebb_fast.scalars import at_least_zero

TOLERANCE = 1e-4
UNKNOWN = (math.nan, math.nan, -1)  # stable rank, effective rank, rank


@dataclass(frozen=True)
class Symmetry:
    """How different the channels of one weight are; see `symmetry`.

    Fields: `channels`, `distinct`, `deviation`, `forward_correlation`, `backward_correlation`,
    `kernel_correlation`; `stable_rank`, `effective_rank` and `rank` of the weight, and
    `change_stable_rank`, `change_effective_rank` and `change_rank` of its change.
    """

    channels: int
    distinct: int
    deviation: float
    forward_correlation: float
    backward_correlation: float
    kernel_correlation: float
    stable_rank: float
    effective_rank: float
    rank: int
    change_stable_rank: float
    change_effective_rank: float
    change_rank: int


@torch.no_grad()
def symmetry(
    model: nn.Module,
    start: Mapping[str, Tensor] | None = None,
    *,
    tolerance: float = TOLERANCE,
    ranks: bool = True,
) -> dict[str, Symmetry]:
    """The symmetry of every weight of `model` of two to four dimensions, [K, C, ...], by name.

    - `channels` K, and how many of their filters are `distinct`, compared entry by entry.
    - `deviation`: the largest difference between two filters in any entry; 0 where all are equal.
    - `forward_correlation`, `backward_correlation`, `kernel_correlation`: the mean Pearson
      correlation of two filters [C·...], of two input channels [K·...], and of two kernels [...]
      (ConstNet, Blumenfeld et al. 2020). A constant row counts as correlated with all others.
    - `stable_rank` |W|_F²/|W|_2², `effective_rank` exp(entropy of the singular values over their
      sum) (Roy, Vetterli 2007) and `rank`, the singular values above `tolerance`, of the matrix
      [K, C·...]; and the same of its change W - W_0, W_0 the tensor of that name in `start`
      (a `state_dict` from before training).

    All are computed in float32 at least. Ranks take two singular value decompositions a weight,
    seconds for 2048 channels. NaN and -1 stand for what is not known: without `ranks`, without
    `start` those of the change, and all figures of a weight that is not finite.

    Raises:
        TypeError: `model` is no module, or `start` no mapping.
        ValueError: `start` lacks a weight or has another shape of it, or `tolerance` is negative.
    """
    check_model(model)
    if not isinstance(start, Mapping | None):
        raise TypeError(f"start must be a state_dict or None; got {start!r}")
    tolerance = at_least_zero("tolerance", tolerance)
    weights = {n: p.detach() for n, p in model.named_parameters() if p.dim() in (2, 3, 4)}
    for name, weight in weights.items():
        shape = None if start is None else getattr(start.get(name), "shape", ())
        if shape not in (None, weight.shape):
            came = tuple(shape) or "no such tensor"
            raise ValueError(f"start must have {name}, {tuple(weight.shape)}; got {came}")
    return {
        name: _of_weight(weight, None if start is None else start[name], tolerance, ranks)
        for name, weight in weights.items()
    }


def feature_diversity(found: Mapping[str, Symmetry]) -> float:
    """Σ ln √(1 - C_b²) over the weights, C_b the backward correlation (Blumenfeld et al. 2020).

    0 if no two channels are correlated, -inf if in one weight all are equal.

    `found` is what `symmetry` gives.
    """
    left = [1 - s.backward_correlation**2 for s in found.values()]
    return sum(0.5 * math.log(value) if value > 0 else -math.inf for value in left)


def mean_correlation(rows: Tensor) -> float:
    """The mean Pearson correlation of two different rows [K, N]; constant rows count as equal."""
    count = rows.shape[0]
    if count < 2:
        return 1.0
    rows = rows.double()
    centred = rows - rows.mean(dim=1, keepdim=True)
    norms = torch.linalg.vector_norm(centred, dim=1)
    varied = norms > 1e-7 * rows.abs().amax(dim=1)  # what rounding leaves of a constant row
    units = centred[varied] / norms[varied].unsqueeze(1)
    pairs, known = count * (count - 1), len(units) * (len(units) - 1)
    total = float(units.sum(dim=0).square().sum()) - len(units)
    return min(1.0, (total + pairs - known) / pairs)


def _of_weight(weight: Tensor, start: Tensor | None, tolerance: float, ranks: bool) -> Symmetry:
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    rows = weight.flatten(1)
    distinct = torch.unique(rows, dim=0).shape[0]
    if not rows.isfinite().all():
        return Symmetry(rows.shape[0], distinct, *[math.nan] * 4, *UNKNOWN, *UNKNOWN)
    change = None if start is None else rows - start.to(weight).flatten(1)
    return Symmetry(
        rows.shape[0],
        distinct,
        float((rows.amax(dim=0) - rows.amin(dim=0)).max()),
        mean_correlation(rows),
        mean_correlation(weight.transpose(0, 1).flatten(1)),
        mean_correlation(weight.flatten(0, 1).flatten(1)) if weight.dim() > 2 else 1.0,
        *_ranks(rows if ranks else None, tolerance),
        *_ranks(change if ranks else None, tolerance),
    )


def _ranks(matrix: Tensor | None, tolerance: float) -> tuple[float, float, int]:
    if matrix is None:
        return UNKNOWN
    values = torch.linalg.svdvals(matrix).double()
    if values[0] == 0:
        return 0.0, 0.0, 0
    shares = values[values > 0] / values.sum()
    entropy = float(-(shares * shares.log()).sum())
    stable = float(values.square().sum() / values[0] ** 2)
    return stable, math.exp(entropy), int((values > tolerance).sum())
