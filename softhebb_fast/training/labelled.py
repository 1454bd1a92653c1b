"""What the classifiers that are solved take: rows of features and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softhebb_fast.data import permutation
from softhebb_fast.scalars import positive


def checked_rows(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """``x [M, ...]`` as ``[M, F]``.

    Raises TypeError or ValueError unless x is finite and floating point, and labels are int64
    ``[M]`` from 0 on, below ``classes``.
    """
    for name, tensor in (("x", x), ("labels", labels)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor; got {type(tensor).__name__}")
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(f"x must be floating point [N, ...]; got {x.dtype} {tuple(x.shape)}")
    if labels.dtype != torch.int64 or labels.shape != x.shape[:1]:
        raise ValueError(
            f"labels must be int64 [{len(x)}]; got {labels.dtype} {tuple(labels.shape)}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels must lie in 0 .. {classes - 1}; got {int(labels.min())} .. {int(labels.max())}"
        )
    if not x.isfinite().all():
        raise ValueError("x must be finite; it holds NaN or infinity")
    return x.flatten(1)


def checked_held(held: Tensor, labels: Tensor) -> Tensor:
    """Which rows are held out, bool ``[M]``. Raises ValueError for another dtype or shape."""
    if held.dtype != torch.bool or held.shape != labels.shape:
        raise ValueError(
            f"held must be bool {tuple(labels.shape)}; got {held.dtype} {tuple(held.shape)}"
        )
    return held.to(labels.device)


def drawn(samples: int, share: float, seed: int) -> Tensor:
    """Which of so many ``samples`` are held out, a ``share`` of them: bool ``[samples]``.

    Raises ValueError where none or all would be.
    """
    count = round(share * samples)
    if not 0 < count < samples:
        raise ValueError(
            f"holdout must hold out one of {samples} images at least, and not all; got {share}"
        )
    held = torch.zeros(samples, dtype=torch.bool)
    held[permutation(samples, seed)[:count]] = True
    return held


def scores(x: Tensor, weight: Tensor | None, bias: Tensor | None, at_once: int = 1000) -> Tensor:
    """``x Wᵀ + b`` of features ``x [N, ...]``, float64 ``[N, classes]``, some rows ``at_once``.

    Raises ValueError without a weight ``[classes, F]``, or for another F.
    """
    if weight is None:
        raise ValueError("the classifier must be fitted before it gives scores")
    rows = x.flatten(1)
    if rows.shape[1] != weight.shape[1]:
        raise ValueError(f"x must have {weight.shape[1]} features; got {tuple(x.shape)}")
    parts = [part.double() @ weight.t() for part in rows.split(at_once)]
    return torch.cat(parts) + bias


def rising(name: str, values: Any) -> tuple[float, ...]:
    """``values`` as positive numbers. Raises TypeError or ValueError unless they rise."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"{name} must be a list of numbers; got {values!r}")
    found = tuple(positive(name, value) for value in values)
    if not found or list(found) != sorted(set(found)):
        raise ValueError(f"{name} must rise, one at least; got {values!r}")
    return found
