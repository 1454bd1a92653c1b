"""The linear classifier by softmax regression, solved to the end instead of trained in epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.scalars import between, plain, positive, whole
from softhebb_fast.training import memory
from softhebb_fast.training.labelled import checked_held, checked_rows, drawn, rising, scores

FACTORS = tuple(10.0 ** (k / 2) for k in range(-10, -3))  # 1e-5 to 1e-2
HISTORY = 20  # of L-BFGS
BLOCK = 1024  # rows at a time


@dataclass(frozen=True)
class SoftmaxSettings:
    """How a softmax classifier is fitted, as plain values that survive JSON.

    The mean cross-entropy of ``softmax(x Wᵀ + b)`` is minimised with the penalty
    ``λ tr(W (C + s I) Wᵀ)``. C is the covariance of the features, so that λ weighs the spread of
    the scores and s times the squared weights; I is scaled by the features' mean variance.

    Attributes:
        penalty: λ as a number; or ``"holdout"``, that of ``factors`` with the best accuracy on
            training images that are held out, of equals the largest, then a fit to all.
        holdout: the share of the training images that is held out.
        standardise: whether every feature is divided by its standard deviation first.
        factors: λ to choose among.
        smoothing: s.
        iterations: the most that L-BFGS makes for one λ, each from the solution before.

    Raises TypeError or ValueError for other values, naming them.

    Source: Nocedal 1980 (L-BFGS), in coordinates in which ``C + s I`` is the identity.
    """

    penalty: str | float = "holdout"
    holdout: float = 0.1
    standardise: bool = False
    factors: Sequence[float] = FACTORS
    smoothing: float = 0.1
    iterations: int = 100

    def __post_init__(self) -> None:
        if self.penalty != "holdout":
            if isinstance(self.penalty, str):
                raise ValueError(f"penalty must be a number or holdout; got {self.penalty!r}")
            object.__setattr__(self, "penalty", positive("penalty", self.penalty))
        object.__setattr__(self, "holdout", between("holdout", self.holdout, 0, 1))
        object.__setattr__(self, "standardise", plain(self.standardise))
        if not isinstance(self.standardise, bool):
            raise TypeError(f"standardise must be a bool; got {self.standardise!r}")
        object.__setattr__(self, "factors", rising("factors", self.factors))
        object.__setattr__(self, "smoothing", positive("smoothing", self.smoothing))
        object.__setattr__(self, "iterations", whole("iterations", self.iterations, 1))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"factors": list(self.factors)}


class SoftmaxClassifier:
    """A linear classifier of features, by softmax regression with a penalty.

        classifier = SoftmaxClassifier(10, standardise=True).fit(features, labels)
        classifier.predict(features)

    All features are kept in float32 until it is solved. ``begin``, ``add`` and ``solve`` take them
    in chunks, as those of ``RidgeClassifier`` do. Of one process alone.

    Args:
        classes: how many there are.
        penalty, holdout, standardise, factors, smoothing, iterations: as in ``SoftmaxSettings``.

    Attributes:
        weight, bias: float64 ``[classes, F]`` and ``[classes]``, None before the fit.
        penalty: the λ that was taken.
        trials: what was tried, the least first: each ``penalty`` with its ``holdout_accuracy`` in
            per cent.
    """

    classes: int
    settings: SoftmaxSettings

    def __init__(
        self,
        classes: int,
        *,
        penalty: str | float = "holdout",
        holdout: float = 0.1,
        standardise: bool = False,
        factors: Sequence[float] = FACTORS,
        smoothing: float = 0.1,
        iterations: int = 100,
    ) -> None:
        self.classes = whole("classes", classes, 2)
        options = standardise, factors, smoothing, iterations
        self.settings = SoftmaxSettings(penalty, holdout, *options)
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.penalty: float | None = None
        self.trials: list[dict[str, float]] = []
        self._rows: Tensor | None = None

    def fit(
        self, x: Tensor, labels: Tensor, *, chunk: int = 1000, seed: int = 0
    ) -> SoftmaxClassifier:
        """Fit to features ``x [N, ...]`` and ``labels [N]``, ``chunk`` rows at a time.

        Raises as ``begin``, ``add`` and ``solve`` do. ``seed`` draws what is held out.
        """
        chunk, rows = whole("chunk", chunk, 1), checked_rows(x, labels, self.classes)
        held = self.drawn(len(rows), seed)
        self.begin(len(rows), rows.shape[1], x.device)
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            self.add(rows[part], labels[part], None if held is None else held[part])
        return self.solve()

    def drawn(self, samples: int, seed: int) -> Tensor | None:
        """Which of so many ``samples`` are held out, bool ``[samples]``; None if none need be.

        ``seed`` draws them. Raises ValueError where none or all would be.
        """
        if self.settings.penalty != "holdout":
            return None
        return drawn(samples, self.settings.holdout, seed)

    def begin(
        self, samples: int, features: int, device: torch.device | str = "cpu"
    ) -> SoftmaxClassifier:
        """Make ready for so many ``samples`` and ``features``, on ``device``.

        Raises ValueError, with the memory needed and the memory free, where it does not suffice.
        """
        samples, features = whole("samples", samples, 2), whole("features", features, 1)
        self._rows = None
        what = f"the softmax classifier of {features} features from {samples} images"
        remedy = "take fewer layers, a smaller grid or fewer filters, or the ridge classifier"
        memory.require(self.bytes_needed(samples, features), device, what, remedy)
        self._rows = torch.empty(samples, features, device=device)
        self._labels = torch.empty(samples, dtype=torch.int64, device=device)
        self._learned, self._held = 0, samples
        self.weight = self.bias = self.penalty = None
        self.trials = []
        return self

    def bytes_needed(self, samples: int, features: int) -> int:
        """The most memory that a fit to so many ``samples`` and ``features`` takes at a time."""
        scores = 3 * samples * self.classes
        steps = (2 * HISTORY + 8) * features * self.classes
        return 4 * (samples * features + scores + steps + BLOCK * features) + 28 * features**2

    @torch.no_grad()
    def add(self, x: Tensor, labels: Tensor, held: Tensor | None = None) -> None:
        """Take in a chunk of features ``x [M, ...]`` with its ``labels`` int64 ``[M]``.

        ``held`` (bool ``[M]``) tells which rows are held out, for ``penalty="holdout"``.

        Raises TypeError or ValueError for other shapes, dtypes, labels or features that are not
        finite, and for more samples than were announced; nothing of the chunk is then taken in.
        """
        if self._rows is None:
            raise ValueError("begin(samples, features) must come before add")
        rows = checked_rows(x, labels, self.classes).float()
        if not rows.isfinite().all():
            raise ValueError("x must be finite in float32, in which it is kept")
        if rows.shape[1] != self._rows.shape[1]:
            raise ValueError(f"x must have {self._rows.shape[1]} features; got {tuple(x.shape)}")
        if len(rows) > self._held - self._learned:
            raise ValueError(
                f"x must bring the samples to {len(self._rows)} at most, as announced; got "
                f"{len(self._rows) - self._held + self._learned + len(rows)}"
            )
        if held is None:
            held = torch.zeros_like(labels, dtype=torch.bool)
        elif self.settings.penalty != "holdout":
            raise ValueError(f"held is for penalty='holdout'; got {self.settings.penalty!r}")
        held = checked_held(held, labels)
        kept, more = int(held.sum()), len(rows) - int(held.sum())
        for start, own in ((self._learned, ~held), (self._held - kept, held)):
            part = slice(start, start + int(own.sum()))
            self._rows[part], self._labels[part] = rows[own], labels[own]
        self._learned, self._held = self._learned + more, self._held - kept

    @torch.no_grad()
    def solve(self) -> SoftmaxClassifier:
        """Choose the penalty and solve, from all that was taken in.

        Raises ValueError for fewer samples than announced, for ``penalty="holdout"`` with no row or
        all rows held out, and for a smoothing that rounding leaves without effect.
        """
        if self._rows is None or self._learned < self._held:
            seen = 0 if self._rows is None else len(self._rows) - self._held + self._learned
            raise ValueError(f"solve needs the samples that were announced; got {seen} of them")
        chosen, learned = self.settings.penalty, self._learned
        samples, features = self._rows.shape
        if chosen == "holdout" and not 0 < learned < samples:
            raise ValueError(
                f"held must hold out some of {samples} rows for penalty='holdout', and not all; "
                f"got {samples - learned}"
            )
        rows, labels, self._rows = self._rows, self._labels, None
        mean, scale, factor = self._coordinates(rows, learned)
        solution = rows.new_zeros(self.classes, features + 1)
        if chosen == "holdout":
            best = -1.0
            for penalty in reversed(self.settings.factors):
                solution = self._solution(rows[:learned], labels[:learned], penalty, solution)
                found = rows[learned:] @ solution[:, 1:].t() + solution[:, 0]
                correct = 100 * float((found.argmax(1) == labels[learned:]).double().mean())
                self.trials.insert(0, {"penalty": penalty, "holdout_accuracy": correct})
                if correct > best:
                    best, chosen, start = correct, penalty, solution
            solution = start
        self.penalty = chosen
        solution = self._solution(rows, labels, chosen, solution).double()
        weight = torch.linalg.solve_triangular(factor, solution[:, 1:], upper=False, left=False)
        self.weight = weight / scale
        self.bias = solution[:, 0] - self.weight @ mean
        return self

    def scores(self, x: Tensor) -> Tensor:
        """The scores ``[N, classes]`` of features ``x [N, ...]``, float64."""
        return scores(x, self.weight, self.bias)

    def predict(self, x: Tensor) -> Tensor:
        """The class ``[N]`` with the largest score, of features ``x [N, ...]``."""
        return self.scores(x).argmax(1)

    def _coordinates(self, rows: Tensor, learned: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give ``rows [N, F]`` coordinates in which the penalty is λ times the squared weights.

        Mean ``[F]``, deviation ``[F]`` and covariance are those of the rows that are ``learned``;
        they and the covariance's lower factor ``[F, F]`` are returned, in float64.
        """
        parts = rows[:learned].split(BLOCK)
        mean = sum(part.double().sum(0) for part in parts) / learned
        rows -= mean.float()
        matrix = rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
        for part in parts:
            matrix += part.t() @ part
        matrix /= learned
        scale = torch.ones_like(mean)
        if self.settings.standardise:
            variance = matrix.diagonal()
            scale = torch.where(variance > 0, variance, 1.0).sqrt()
            matrix.div_(scale[:, None]).div_(scale)
        unit = float(matrix.diagonal().mean())
        matrix.diagonal().add_(self.settings.smoothing * (unit if unit > 0 else 1.0))
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            raise ValueError(
                f"smoothing must be larger for these features; {self.settings.smoothing:g} leaves "
                "a matrix that has no factor in float64"
            )
        upper, scale32 = factor.t().float(), scale.float()
        for part in rows.split(BLOCK):
            given = part / scale32
            part.copy_(torch.linalg.solve_triangular(upper, given, upper=True, left=False))
        return mean, scale, factor

    @torch.enable_grad()
    def _solution(self, rows: Tensor, labels: Tensor, penalty: float, start: Tensor) -> Tensor:
        """Bias and weights ``[classes, 1 + F]`` of the least loss, from ``start`` on."""
        solution = start.clone().requires_grad_()
        steps = torch.optim.LBFGS(
            [solution],
            max_iter=self.settings.iterations,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            steps.zero_grad()
            bias, weight = solution[:, 0], solution[:, 1:]
            found = F.cross_entropy(rows @ weight.t() + bias, labels)
            found = found + penalty * weight.square().sum()
            found.backward()
            return found

        steps.step(loss)
        return solution.detach()
