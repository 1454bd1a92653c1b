"""Mean and covariance of a stream of vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Moments:
    """Count, mean and covariance of vectors of ``size`` numbers, given in chunks.

    Sums are float64. Chunks are merged by their means, so that how vectors are divided into
    chunks matters to rounding alone, and a large mean costs no digits of the covariance.
    Source: Chan, Golub, LeVeque 1983, "Algorithms for Computing the Sample Variance".
    """

    def __init__(self, size: int, device: torch.device | str | None = None) -> None:
        self.count: int = 0
        self.mean: Tensor = torch.zeros(size, dtype=torch.float64, device=device)
        self.products: Tensor = torch.zeros(size, size, dtype=torch.float64, device=device)

    def add(self, vectors: Tensor) -> None:
        """Take in ``vectors [P, size]``, of any dtype."""
        if not len(vectors):
            return
        vectors = vectors.double()
        mean = vectors.mean(dim=0)
        centred = vectors - mean
        total = self.count + len(vectors)
        apart = mean - self.mean
        self.products += centred.T @ centred
        self.products += torch.outer(apart, apart) * (self.count * len(vectors) / total)
        self.mean += apart * (len(vectors) / total)
        self.count = total

    def covariance(self) -> Tensor:
        """The mean of the products of deviations, float64 ``[size, size]``.

        Raises ValueError for fewer than two vectors, or numbers that are not finite.
        """
        if self.count < 2:
            raise ValueError(f"moments need two vectors at least; got {self.count}")
        if not self.products.isfinite().all():
            raise ValueError("vectors must be finite; some of those given are not")
        return self.products / self.count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean, "products": self.products}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        self.mean.copy_(state["mean"])
        self.products.copy_(state["products"])
