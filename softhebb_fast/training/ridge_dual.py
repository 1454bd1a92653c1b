"""Least squares with a penalty, as many equations as rows, from chunks of rows.

As ``ridge_primal``, for features that are more than the rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.training import ridge_sums
from softhebb_fast.training.cholesky import add_products, product
from softhebb_fast.training.ranks import Ranks
from softhebb_fast.training.ridge_sums import Dtypes, deviation


class Dual:
    """``(XXᵀ + λ) A = Y``, ``W = XᵀA`` of N x N: for more features than rows.

    Attributes and methods are those of ``Primal``, rows in the place of the features of ``matrix``
    and ``right``. All rows are kept. The products are of all rows, those held out last: what the
    equations of the others need is a corner of them.
    """

    dtypes: Dtypes
    shift: Tensor | None
    classes: int
    x: Tensor
    labels: Tensor
    scale: Tensor
    products: Tensor
    order: Tensor
    rows: int
    counts: Tensor
    right: Tensor

    def __init__(
        self, samples: int, features: int, classes: int, dtypes: Dtypes, device: torch.device
    ) -> None:
        self.dtypes, self.shift, self.classes, self._filled = dtypes, None, classes, 0
        self.x = torch.empty(samples, features, dtype=dtypes.kept, device=device)
        self.labels = torch.empty(samples, dtype=torch.int64, device=device)
        self._held = torch.zeros(samples, dtype=torch.bool, device=device)
        self.scale = torch.ones(features, dtype=torch.float64, device=device)

    @staticmethod
    def bytes_of(samples: int, features: int, held: int, dtypes: Dtypes, spectrum: bool) -> int:
        return dtypes.bytes_of(samples, features * samples, spectrum)

    @property
    def matrix(self) -> Tensor:
        """``[rows, rows]``, right in its lower triangle alone."""
        return self.products[: self.rows, : self.rows]

    def add(self, x: Tensor, labels: Tensor, held: Tensor | None) -> None:
        x, shift = self.dtypes.shifted(x, self.shift)
        place = slice(self._filled, self._filled + len(x))
        self.x[place] = self.dtypes.to_keep(x)
        self.shift = shift
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
        for part in self.x.split(ridge_sums.BLOCK):
            ranks.total(part)
        ranks.total(self.labels)
        self._held = ranks.total(self._held.to(torch.uint8)).bool()

    def prepare(self, standardise: bool) -> None:
        rows = len(self.x)
        self.order = torch.cat([(~self._held).nonzero(), self._held.nonzero()]).flatten()
        options = {"dtype": self.dtypes.sums, "device": self.x.device}
        self.products = torch.zeros(rows, rows, **options)
        for start in range(0, self.x.shape[1], ridge_sums.BLOCK):
            x, part = self._columns(start, rows), slice(start, start + ridge_sums.BLOCK)
            if standardise:
                self.scale[part] = deviation(x.var(0, correction=0))
            x = ((x - x.mean(0)) / self.scale[part]).to(self.dtypes.products)
            add_products(self.products, x.t())
        self._take(rows - int(self._held.sum()))

    def held_scores(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        cross = self.products[self.rows :, : self.rows]
        scores = torch.cat([part.double() @ solution for part in cross.split(ridge_sums.BLOCK)])
        return scores + self.counts / self.rows, self.labels[self.order[self.rows :]]

    def take_held(self) -> None:
        if self.rows < len(self.x):
            self._take(len(self.x))

    def weight(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        options = {"dtype": torch.float64, "device": self.x.device}
        weight = torch.empty(self.x.shape[1], self.classes, **options)
        mean = torch.empty(self.x.shape[1], **options)
        for start in range(0, len(mean), ridge_sums.BLOCK):
            x, part = self._columns(start, self.rows), slice(start, start + ridge_sums.BLOCK)
            mean[part] = x.mean(0)
            weight[part] = (x - mean[part]).t() @ solution / self.scale[part, None].square()
        return weight, self.counts / self.rows - mean @ weight

    def residual(self, squared: Tensor, values: Tensor, penalty: float) -> Tensor:
        return (squared * (penalty / (values + penalty)).square()).sum()

    def _columns(self, start: int, rows: int) -> Tensor:
        """``BLOCK`` columns of so many rows in their order, float64."""
        return self.x[self.order[:rows], start : start + ridge_sums.BLOCK].double()

    def _take(self, rows: int) -> None:
        """Make the equations of the first ``rows``: count all from the mean of these."""
        self.rows = rows
        targets = F.one_hot(self.labels[self.order[:rows]], self.classes).double()
        self.counts = targets.sum(0)
        self.right = targets - targets.mean(0)
        equal = targets.new_full((1, rows), 1 / rows)
        rest = self.products[rows:, :rows].split(ridge_sums.BLOCK)
        means = [product(self.matrix, equal)[0], *(part.double().mean(1) for part in rest)]
        means = torch.cat(means)
        least = means - means[:rows].mean()
        for i in range(0, len(means), ridge_sums.BLOCK):
            end = min(i + ridge_sums.BLOCK, len(means))
            self.products[i:end, :end] -= (means[i:end, None] + least[:end]).to(self.dtypes.sums)
