"""The linear classifier by softmax regression, solved to the end instead of trained in epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.scalars import positive, whole
from softhebb_fast.training.cholesky import Factor, add_products
from softhebb_fast.training.solved import SolvedClassifier, check_settings

FACTORS = tuple(10.0 ** (k / 2) for k in range(-10, -3))  # 1e-5 to 1e-2
HISTORY = 20  # of L-BFGS
BLOCK = 1024  # rows at a time, and of the equations
ROWS = 4096  # at a time: products of far more with few scores take many times as long


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
    error: ClassVar[str] = "loss"

    def __post_init__(self) -> None:
        check_settings(self, ("holdout",), positive)
        object.__setattr__(self, "smoothing", positive("smoothing", self.smoothing))
        object.__setattr__(self, "iterations", whole("iterations", self.iterations, 1))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"factors": list(self.factors)}

    def classifier(self, classes: int) -> SoftmaxClassifier:
        return SoftmaxClassifier(classes, **self.to_dict())


class SoftmaxClassifier(SolvedClassifier):
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

    name: str = "softmax"
    remedy: str = f"{SolvedClassifier.remedy}, or the ridge classifier"
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
        options = standardise, factors, smoothing, iterations
        super().__init__(classes, SoftmaxSettings(penalty, holdout, *options))
        self._rows: Tensor | None = None

    def bytes_needed(self, samples: int, features: int) -> int:
        """The most memory that a fit to so many ``samples`` and ``features`` takes at a time."""
        scores = 3 * samples * self.classes
        steps = (2 * HISTORY + 8) * features * self.classes
        parts = 8 * BLOCK * features  # of rows, of the equations and of their factor
        return 4 * (samples * features + scores + steps + parts) + 8 * features**2

    def _begin(self, samples: int, features: int, device: torch.device) -> None:
        self._rows = torch.empty(samples, features, device=device)
        self._labels = torch.empty(samples, dtype=torch.int64, device=device)

    def _take(self, rows: Tensor, labels: Tensor, held: Tensor | None) -> None:
        """Those to learn from lie at the front, those held out at the back."""
        held = torch.zeros_like(labels, dtype=torch.bool) if held is None else held
        begin, end = self._seen - self._held, self._samples - self._held
        for start, own in ((begin, ~held), (end - int(held.sum()), held)):
            part = slice(start, start + int(own.sum()))
            self._rows[part], self._labels[part] = rows[own], labels[own]

    def _forget(self) -> None:
        self._rows = self._labels = None

    def _solve(self) -> tuple[Tensor, Tensor]:
        chosen, rows, labels = self.settings.penalty, self._rows, self._labels
        learned = self._samples - self._held
        mean, scale, factor = self._coordinates(rows, learned)
        solution = rows.new_zeros(self.classes, self._features + 1)
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
        weight = factor.back_(solution[:, 1:].contiguous()) / scale
        return weight, solution[:, 0] - weight @ mean

    def _checked(self, x: Tensor, labels: Tensor) -> Tensor:
        rows = super()._checked(x, labels).float()
        if not rows.isfinite().all():
            raise ValueError("x must be finite in float32, in which it is kept")
        return rows

    def _coordinates(self, rows: Tensor, learned: int) -> tuple[Tensor, Tensor, Factor]:
        """Give ``rows [N, F]`` coordinates in which the penalty is λ times the squared weights.

        Mean ``[F]``, deviation ``[F]`` and covariance are those of the rows that are ``learned``;
        they and the covariance's factor ``[F, F]`` are returned, in float64.
        """
        parts = rows[:learned].split(BLOCK)
        mean = sum(part.double().sum(0) for part in parts) / learned
        rows -= mean.float()
        matrix = rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
        for part in parts:
            add_products(matrix, part)
        matrix /= learned
        scale = torch.ones_like(mean)
        if self.settings.standardise:
            variance = matrix.diagonal()
            scale = torch.where(variance > 0, variance, 1.0).sqrt()
            matrix.div_(scale[:, None]).div_(scale)
        unit = float(matrix.diagonal().mean())
        matrix.diagonal().add_(self.settings.smoothing * (unit if unit > 0 else 1.0))
        factor = Factor(matrix, 0.0, torch.float64)
        if not factor.exists:
            raise ValueError(
                f"smoothing must be larger for these features; {self.settings.smoothing:g} leaves "
                "a matrix that has no factor in float64"
            )
        scale32 = scale.float()
        for part in rows.split(ROWS):
            part /= scale32
            factor.forward_(part)
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
            penalised = penalty * solution[:, 1:].square().sum()
            penalised.backward()
            total = penalised.detach()
            # Of weights that are not contiguous autograd takes the gradient by a slower product.
            bias, weight = (
                part.detach().contiguous().requires_grad_()
                for part in (solution[:, 0], solution[:, 1:])
            )
            for x, wanted in zip(rows.split(ROWS), labels.split(ROWS), strict=True):
                scores = F.linear(x, weight, bias)
                part = F.cross_entropy(scores, wanted, reduction="sum") / len(rows)
                part.backward()
                total += part.detach()
            solution.grad[:, 0] += bias.grad
            solution.grad[:, 1:] += weight.grad
            return total

        steps.step(loss)
        return solution.detach()
