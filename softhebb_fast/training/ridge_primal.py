"""Least squares with a penalty, as many equations as features, from chunks of rows.

Rows are features x ``[F]``; the target of a class is 1 for its rows and 0 for all others. Rows and
targets are centred, so that the bias goes without a penalty. Rows count from the mean of the first
chunk, so that little cancels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.training import ridge_sums
from softhebb_fast.training.cholesky import add_products
from softhebb_fast.training.ranks import Ranks
from softhebb_fast.training.ridge_sums import Dtypes, deviation

Rows = tuple[Tensor, Tensor]


class Primal:
    """``(XᵀX + λ) W = XᵀY`` of F x F: for more rows than features.

    Attributes:
        matrix: ``[F, F]`` in the dtype of sums, right in its lower triangle alone.
        right: float64 ``[F, K]``.
        rows: how many rows the equations are of.
    """

    dtypes: Dtypes
    shift: Tensor | None
    rows: int
    matrix: Tensor
    right: Tensor
    sums: Tensor
    counts: Tensor
    scale: Tensor

    def __init__(
        self, samples: int, features: int, classes: int, dtypes: Dtypes, device: torch.device
    ) -> None:
        self.dtypes, self.shift, self.rows = dtypes, None, 0
        self.matrix = torch.zeros(features, features, dtype=dtypes.sums, device=device)
        options = {"dtype": torch.float64, "device": device}
        self.right = torch.zeros(features, classes, **options)
        self.sums, self.counts = torch.zeros(features, **options), torch.zeros(classes, **options)
        self.scale = torch.ones(features, **options)
        self._kept: list[Rows] = []

    @staticmethod
    def bytes_of(samples: int, features: int, held: int, dtypes: Dtypes, spectrum: bool) -> int:
        """The most memory taken at a time, ``held`` rows kept back; ``spectrum`` decomposes."""
        return dtypes.bytes_of(features, features * held, spectrum)

    @property
    def mean(self) -> Tensor:
        """The mean of the rows, counted from ``shift``."""
        return self.sums / self.rows

    def add(self, x: Tensor, labels: Tensor, held: Tensor | None) -> None:
        """Take rows ``x [M, F]`` in; those that are ``held`` (bool ``[M]``) are kept back."""
        x, shift = self.dtypes.shifted(x, self.shift)
        if held is not None and held.any():
            self._kept.append((self.dtypes.to_keep(x[held]), labels[held]))
            x, labels = x[~held], labels[~held]
        self.shift = shift
        self._add_products(x, labels)
        self.sums += x.double().sum(0)
        self.counts += labels.bincount(minlength=len(self.counts))
        self.rows += len(x)

    def skip(self, rows: int) -> None:
        """Leave so many ``rows`` to another process."""

    def add_up(self, ranks: Ranks) -> None:
        """Take in the sums and the rows kept back of the other processes."""
        for i in range(0, len(self.matrix), ridge_sums.BLOCK):
            end = min(i + ridge_sums.BLOCK, len(self.matrix))
            self.matrix[i:end, :end] = ranks.total(self.matrix[i:end, :end].contiguous())
        for sums in (self.right, self.sums, self.counts):
            ranks.total(sums)
        own = sum(len(x) for x, _ in self._kept)
        sizes = self.sums.new_zeros(2, ranks.size)
        sizes[:, ranks.rank] = sizes.new_tensor([self.rows, own])
        rows, kept = ranks.total(sizes).long().tolist()
        self.rows, own_parts, self._kept = sum(rows), self._kept, []
        for source, count in enumerate(kept):
            if count and source == ranks.rank:
                x, labels = (torch.cat(parts) for parts in zip(*own_parts, strict=True))
            elif count:
                x = self.sums.new_empty(count, len(self.sums), dtype=self.dtypes.kept)
                labels = self.sums.new_empty(count, dtype=torch.int64)
            if count:
                ranks.spread(x, source)
                ranks.spread(labels, source)
                self._kept.append((x, labels))

    def prepare(self, standardise: bool) -> None:
        """Make the equations of the rows taken in.

        With ``standardise`` every feature gets the deviation 1 over all rows, those kept back too.
        """
        if standardise:
            squares, sums = self.matrix.diagonal().clone(), self.sums.clone()
            rows = self.rows + sum(len(x) for x, _ in self._kept)
            for x, _ in self._kept:
                squares += x.double().square().sum(0)
                sums += x.double().sum(0)
            self.scale = deviation(squares / rows - (sums / rows).square())
        self._add_outer(self.mean, -self.rows)
        self.right -= torch.outer(self.mean, self.counts)
        scale = self.scale.to(self.matrix.dtype)  # of another dtype it would take a copy
        self.matrix.div_(scale[:, None]).div_(scale)
        self.right.div_(self.scale[:, None])

    def held_scores(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        """The scores ``[M, K]`` of the rows kept back, and their labels ``[M]``."""
        weight, bias = self.weight(solution)
        scores = [x.double() @ weight + bias for x, _ in self._kept]
        return torch.cat(scores), torch.cat([labels for _, labels in self._kept])

    def take_held(self) -> None:
        """Make the equations those of all rows.

        Source: Chan, Golub and LeVeque 1983, how centred sums of two parts add up.
        """
        if not self._kept:
            return
        kept, self._kept = self._kept, []
        rows, more = self.rows, sum(len(x) for x, _ in kept)
        sums = sum(x.double().sum(0) for x, _ in kept)
        counts = sum(labels.bincount(minlength=len(self.counts)) for _, labels in kept).double()
        centre = sums / more
        for x, labels in _joined(kept):
            rows_apart = (x.double() - centre) / self.scale
            self._add_products(rows_apart.to(self.dtypes.products), labels)
        between = (centre - self.mean) / self.scale
        weight = rows * more / (rows + more)
        self._add_outer(between, weight)
        self.right += weight * torch.outer(between, counts / more - self.counts / rows)
        self.sums, self.counts, self.rows = self.sums + sums, self.counts + counts, rows + more

    def weight(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        """Weight ``[F, K]`` and bias ``[K]`` for rows counted from ``shift``."""
        weight = solution / self.scale[:, None]
        return weight, self.counts / self.rows - self.mean @ weight

    def residual(self, squared: Tensor, values: Tensor, penalty: float) -> Tensor:
        """The squared errors of all rows and classes, from the eigenvalues of ``matrix`` ``[F]``
        and the squares of ``right`` along its eigenvectors ``[F]``."""
        targets = (self.counts - self.counts.square() / self.rows).sum()
        explained = squared * (values + 2 * penalty) / (values + penalty).square()
        return (targets - explained.sum()).clamp(min=0)

    def _add_products(self, x: Tensor, labels: Tensor) -> None:
        add_products(self.matrix, x)
        self.right += (x.t() @ F.one_hot(labels, len(self.counts)).to(x.dtype)).double()

    def _add_outer(self, vector: Tensor, factor: float) -> None:
        for i in range(0, len(vector), ridge_sums.BLOCK):
            end = min(i + ridge_sums.BLOCK, len(vector))
            self.matrix[i:end, :end] += factor * torch.outer(vector[i:end], vector[:end])


def _joined(kept: list[Rows]) -> Iterator[Rows]:
    """Rows ``[M, F]`` and labels, ``BLOCK`` rows or more together: each time the matrix passes."""
    parts: list[Rows] = []
    for i, part in enumerate(kept, 1):
        parts.append(part)
        if i == len(kept) or sum(len(x) for x, _ in parts) >= ridge_sums.BLOCK:
            x, labels = (torch.cat(columns) for columns in zip(*parts, strict=True))
            yield x, labels
            parts.clear()
