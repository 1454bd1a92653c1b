"""Least squares with a penalty, in the two forms of its equations, from chunks of rows.

Rows are features x ``[F]``; the target of a class is 1 for its rows and 0 for all others. Both
forms centre rows and targets, so that the bias goes without a penalty. Sums are float64, whatever
dtype their products have. Rows count from the mean of the first chunk, so that little cancels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.training.ranks import Ranks

Rows = tuple[Tensor, Tensor]
BLOCK = 1024  # rows of a matrix, or columns of its factors, at a time


class Primal:
    """``(XᵀX + λ) W = XᵀY`` of F x F: for more rows than features.

    Attributes:
        matrix: float64 ``[F, F]``, right in its lower triangle alone.
        right: float64 ``[F, K]``.
        rows: how many rows the equations are of.
    """

    dtype: torch.dtype
    shift: Tensor | None
    rows: int
    matrix: Tensor
    right: Tensor
    sums: Tensor
    counts: Tensor
    scale: Tensor

    def __init__(
        self, samples: int, features: int, classes: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.dtype, self.shift, self.rows = dtype, None, 0
        options = {"dtype": torch.float64, "device": device}
        self.matrix = torch.zeros(features, features, **options)
        self.right = torch.zeros(features, classes, **options)
        self.sums, self.counts = torch.zeros(features, **options), torch.zeros(classes, **options)
        self.scale = torch.ones(features, **options)
        self._kept: list[Rows] = []

    @staticmethod
    def bytes_of(samples: int, features: int, held: int, itemsize: int, spectrum: bool) -> int:
        """The most memory taken at a time, ``held`` rows kept back; ``spectrum`` decomposes."""
        matrices = 8 * features**2 * (5 if spectrum else 1)
        return matrices + itemsize * features * held + 4 * 8 * BLOCK * features

    @property
    def mean(self) -> Tensor:
        """The mean of the rows, counted from ``shift``."""
        return self.sums / self.rows

    def add(self, x: Tensor, labels: Tensor, held: Tensor | None) -> None:
        """Take rows ``x [M, F]`` in; those that are ``held`` (bool ``[M]``) are kept back."""
        if self.shift is None:
            self.shift = x.double().mean(0).to(self.dtype)
        x = x.to(self.dtype) - self.shift
        if held is not None and held.any():
            self._kept.append((x[held], labels[held]))
            x, labels = x[~held], labels[~held]
        self._add_products(x, labels)
        self.sums += x.double().sum(0)
        self.counts += labels.bincount(minlength=len(self.counts))
        self.rows += len(x)

    def skip(self, rows: int) -> None:
        """Leave so many ``rows`` to another process."""

    def add_up(self, ranks: Ranks) -> None:
        """Take in the sums and the rows kept back of the other processes."""
        for i in range(0, len(self.matrix), BLOCK):
            end = min(i + BLOCK, len(self.matrix))
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
                x = self.sums.new_empty(count, len(self.sums), dtype=self.dtype)
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
            self.scale = _deviation(squares / rows - (sums / rows).square())
        self._add_outer(self.mean, -self.rows)
        self.right -= torch.outer(self.mean, self.counts)
        self.matrix.div_(self.scale[:, None]).div_(self.scale)
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
            self._add_products(((x.double() - centre) / self.scale).to(self.dtype), labels)
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
        room = x.new_empty(min(BLOCK, x.shape[1]) * x.shape[1])
        for i in range(0, x.shape[1], BLOCK):
            end = min(i + BLOCK, x.shape[1])
            products = room[: (end - i) * end].view(end - i, end)
            self.matrix[i:end, :end] += torch.mm(x[:, i:end].t(), x[:, :end], out=products)
        self.right += (x.t() @ F.one_hot(labels, len(self.counts)).to(x.dtype)).double()

    def _add_outer(self, vector: Tensor, factor: float) -> None:
        for i in range(0, len(vector), BLOCK):
            end = min(i + BLOCK, len(vector))
            self.matrix[i:end, :end] += factor * torch.outer(vector[i:end], vector[:end])


class Dual:
    """``(XXᵀ + λ) A = Y``, ``W = XᵀA`` of N x N: for more features than rows.

    Attributes and methods are those of ``Primal``, rows in the place of the features of ``matrix``
    and ``right``. All rows are kept.
    """

    dtype: torch.dtype
    shift: Tensor | None
    classes: int
    x: Tensor
    labels: Tensor
    scale: Tensor
    products: Tensor
    taken: Tensor
    rows: int
    counts: Tensor
    right: Tensor
    means: Tensor
    matrix: Tensor

    def __init__(
        self, samples: int, features: int, classes: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.dtype, self.shift, self.classes, self._filled = dtype, None, classes, 0
        self.x = torch.empty(samples, features, dtype=dtype, device=device)
        self.labels = torch.empty(samples, dtype=torch.int64, device=device)
        self._held = torch.zeros(samples, dtype=torch.bool, device=device)
        self.scale = torch.ones(features, dtype=torch.float64, device=device)

    @staticmethod
    def bytes_of(samples: int, features: int, held: int, itemsize: int, spectrum: bool) -> int:
        matrices = 8 * samples**2 * (6 if spectrum else 3)
        return matrices + itemsize * features * samples + 4 * 8 * BLOCK * samples

    def add(self, x: Tensor, labels: Tensor, held: Tensor | None) -> None:
        if self.shift is None:
            self.shift = x.double().mean(0).to(self.x.dtype)
        place = slice(self._filled, self._filled + len(x))
        torch.sub(x.to(self.x.dtype), self.shift, out=self.x[place])
        self.labels[place] = labels
        if held is not None:
            self._held[place] = held
        self._filled += len(x)

    def skip(self, rows: int) -> None:
        place = slice(self._filled, self._filled + rows)
        for kept in (self.x, self.labels, self._held):
            kept[place] = 0
        self._filled += rows

    def add_up(self, ranks: Ranks) -> None:
        for part in self.x.split(BLOCK):
            ranks.total(part)
        ranks.total(self.labels)
        self._held = ranks.total(self._held.to(torch.uint8)).bool()

    def prepare(self, standardise: bool) -> None:
        rows = len(self.x)
        self.products = torch.zeros(rows, rows, dtype=torch.float64, device=self.x.device)
        for i in range(0, self.x.shape[1], BLOCK):
            x = self.x[:, i : i + BLOCK].double()
            if standardise:
                self.scale[i : i + BLOCK] = _deviation(x.var(0, correction=0))
            x = ((x - x.mean(0)) / self.scale[i : i + BLOCK]).to(self.x.dtype)
            self.products += (x @ x.t()).double()
        self._take(~self._held)

    def held_scores(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        cross = self.products[self._held][:, self.taken]
        cross = cross - cross.mean(1, keepdim=True) - self.means + self.means.mean()
        return cross @ solution + self.counts / self.rows, self.labels[self._held]

    def take_held(self) -> None:
        if self._held.any():
            self._take(torch.ones_like(self._held))

    def weight(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        options = {"dtype": torch.float64, "device": self.x.device}
        weight = torch.empty(self.x.shape[1], self.classes, **options)
        mean = torch.empty(self.x.shape[1], **options)
        for i in range(0, len(mean), BLOCK):
            part = slice(i, i + BLOCK)
            x = self.x[self.taken, part].double()
            mean[part] = x.mean(0)
            weight[part] = (x - mean[part]).t() @ solution / self.scale[part, None].square()
        return weight, self.counts / self.rows - mean @ weight

    def residual(self, squared: Tensor, values: Tensor, penalty: float) -> Tensor:
        return (squared * (penalty / (values + penalty)).square()).sum()

    def _take(self, taken: Tensor) -> None:
        """Make the equations of the rows ``taken`` (bool ``[N]``)."""
        self.taken, self.rows = taken, int(taken.sum())
        targets = F.one_hot(self.labels[taken], self.classes).double()
        self.counts = targets.sum(0)
        self.right = targets - targets.mean(0)
        products = self.products[taken][:, taken]
        self.means = products.mean(1)
        self.matrix = products.sub_(self.means).sub_(self.means[:, None]).add_(self.means.mean())


def _joined(kept: list[Rows]) -> Iterator[Rows]:
    """Rows ``[M, F]`` and labels, ``BLOCK`` rows or more together: each time the matrix passes."""
    parts: list[Rows] = []
    for i, part in enumerate(kept, 1):
        parts.append(part)
        if i == len(kept) or sum(len(x) for x, _ in parts) >= BLOCK:
            x, labels = (torch.cat(columns) for columns in zip(*parts, strict=True))
            yield x, labels
            parts.clear()


def _deviation(variance: Tensor) -> Tensor:
    """The root of ``variance``, 1 where there is none."""
    return torch.where(variance > 0, variance, 1.0).sqrt()
