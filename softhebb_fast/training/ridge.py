"""The linear classifier in closed form: ridge regression on one target a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.scalars import at_least_zero
from softhebb_fast.training.cholesky import solved
from softhebb_fast.training.ranks import Ranks
from softhebb_fast.training.ridge_dual import Dual
from softhebb_fast.training.ridge_primal import Primal
from softhebb_fast.training.ridge_sums import Dtypes
from softhebb_fast.training.solved import SolvedClassifier, check_settings

CHOSEN = ("holdout", "gcv")
FULL = ("float32", "float64")
KEPT = ("bfloat16", "float16", *FULL)
FORMS = {"primal": Primal, "dual": Dual}
FACTORS = tuple(10.0 ** (k / 2) for k in range(-10, 3))  # 1e-5 to 10


@dataclass(frozen=True)
class RidgeSettings:
    """How a ridge classifier is fitted, as plain values that survive JSON.

    Attributes:
        penalty: λ of ``|Y - XW|² + λ |W|²`` as a number; or how it is chosen among ``factors``:
            ``"holdout"`` by the accuracy on training images that are held out, of equals the one of
            the least squared error, then a fit to all; ``"gcv"`` by generalised cross-validation.
        holdout: the share of the training images that is held out.
        standardise: whether every feature is divided by its standard deviation first.
        factors: λ to choose among, as multiples of the features' mean variance times their rows.
        products: dtype of the products of features, ``"float32"`` or ``"float64"``.
        sums: dtype of the sums of products, of which there are as many as equations squared:
            ``"float64"``, or ``"float32"`` for half the memory and penalties that are not tiny.
        kept: dtype of the features that stay in memory until the end, those held out and, in the
            dual form, all: ``"bfloat16"``, ``"float16"``, ``"float32"`` or ``"float64"``; that of
            the products if None.
        form: ``"primal"`` solves F equations, ``"dual"`` N; ``"auto"`` takes the fewer.

    Raises TypeError or ValueError for other values, naming them.

    Source: Hoerl and Kennard 1970; Golub, Heath and Wahba 1979 (generalised cross-validation).
    """

    penalty: str | float = "holdout"
    holdout: float = 0.1
    standardise: bool = False
    factors: Sequence[float] = FACTORS
    products: str = "float32"
    sums: str = "float64"
    kept: str | None = None
    form: str = "auto"
    error: ClassVar[str] = "squared_error"

    def __post_init__(self) -> None:
        check_settings(self, CHOSEN, at_least_zero)
        known = {"products": FULL, "sums": FULL, "kept": (None, *KEPT), "form": ("auto", *FORMS)}
        for name, values in known.items():
            if getattr(self, name) not in values:
                allowed = ", ".join(map(str, values))
                raise ValueError(f"{name} must be one of {allowed}; got {getattr(self, name)!r}")
        if self.sums == "float32" and self.products == "float64":
            raise ValueError("sums must be float64 for products='float64'; got 'float32'")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"factors": list(self.factors)}

    @property
    def dtypes(self) -> Dtypes:
        """The dtypes by their names."""
        names = self.products, self.sums, self.kept or self.products
        return Dtypes(*(getattr(torch, name) for name in names))

    def classifier(self, classes: int) -> RidgeClassifier:
        return RidgeClassifier(classes, **self.to_dict())


class RidgeClassifier(SolvedClassifier):
    """A linear classifier of features, solved instead of trained.

        classifier = RidgeClassifier(10, penalty="gcv").fit(features, labels)
        classifier.predict(features)

    Where the features are not there at once, ``begin(samples, features)``, ``add(x, labels)`` for
    every chunk and ``solve()`` do what ``fit`` does. Where several processes have them, each adds
    its own and skips those of the others, ``shift`` is the same for all, and ``add_up`` comes
    before ``solve``.

    Args:
        classes: how many there are; a class without images is never predicted.
        penalty, holdout, standardise, factors, products, sums, kept, form: as in
            ``RidgeSettings``.

    Attributes:
        weight, bias: float64 ``[classes, F]`` and ``[classes]``, None before the fit.
        penalty: the λ that was taken.
        form: ``"primal"`` or ``"dual"``.
        trials: what was tried, in order: each ``penalty``, with ``gcv``, or ``holdout_accuracy`` in
            per cent and ``holdout_squared_error``, summed over the classes, the mean of an image;
            without these where the equations could not be solved.
    """

    name: str = "ridge"
    settings: RidgeSettings

    def __init__(
        self,
        classes: int,
        *,
        penalty: str | float = "holdout",
        holdout: float = 0.1,
        standardise: bool = False,
        factors: Sequence[float] = FACTORS,
        products: str = "float32",
        sums: str = "float64",
        kept: str | None = None,
        form: str = "auto",
    ) -> None:
        given = penalty, holdout, standardise, factors, products, sums, kept, form
        super().__init__(classes, RidgeSettings(*given))
        self.form: str | None = None
        self._equations: Primal | Dual | None = None

    @property
    def remedy(self) -> str:
        if self.settings.penalty != "gcv":
            return super().remedy
        return f"{super().remedy}, or penalty=holdout, which needs less"

    def bytes_needed(self, samples: int, features: int) -> int:
        """The most memory that a fit to so many ``samples`` and ``features`` takes at a time."""
        settings, form = self.settings, FORMS[self._form(samples, features)]
        held = round(settings.holdout * samples) if settings.penalty == "holdout" else 0
        return form.bytes_of(samples, features, held, settings.dtypes, settings.penalty == "gcv")

    @property
    def shift(self) -> Tensor | None:
        """What rows are counted from, ``[F]``; the mean of the first chunk unless it was set."""
        return self._equations.shift

    @shift.setter
    def shift(self, shift: Tensor) -> None:
        self._equations.shift = shift.to(self.settings.dtypes.products)

    def skip(self, rows: int) -> None:
        """Leave so many ``rows`` to another process."""
        self._equations.skip(rows)

    def add_up(self, ranks: Ranks) -> None:
        """Take in what the others of ``ranks`` have added: all then have the same equations."""
        counts = torch.tensor([self._seen, self._held], dtype=torch.float64)
        counts = ranks.total(counts.to(self._equations.shift.device))
        self._seen, self._held = (int(count) for count in counts)
        self._equations.add_up(ranks)

    def _form(self, samples: int, features: int) -> str:
        if self.settings.form != "auto":
            return self.settings.form
        return "dual" if samples < features else "primal"

    def _begin(self, samples: int, features: int, device: torch.device) -> None:
        self.form = self._form(samples, features)
        given = samples, features, self.classes, self.settings.dtypes, device
        self._equations = FORMS[self.form](*given)

    def _take(self, rows: Tensor, labels: Tensor, held: Tensor | None) -> None:
        self._equations.add(rows, labels, held)

    def _forget(self) -> None:
        self._equations = None

    def _solve(self) -> tuple[Tensor, Tensor]:
        equations, chosen = self._equations, self.settings.penalty
        equations.prepare(self.settings.standardise)
        if not equations.matrix.diagonal().isfinite().all():  # no product is larger
            raise ValueError(self.settings.dtypes.too_large("sums of squares that are not"))
        if chosen == "gcv":
            solution = self._by_cross_validation(equations)
        else:
            if chosen == "holdout":
                self.penalty = self._by_held_out(equations)
            else:
                self.penalty = chosen
            solution = solved(equations.matrix, equations.right, self.penalty)
            if solution is None:
                raise ValueError(
                    f"penalty must be larger for these features: {self.penalty:g} leaves equations "
                    f"that cannot be solved in {self.settings.sums}; products='float64' may help "
                    "as well"
                )
        weight, bias = equations.weight(solution)
        return weight.t().contiguous(), bias - equations.shift.double() @ weight

    def _penalties(self, equations: Primal | Dual) -> list[float]:
        unit = float(equations.matrix.diagonal().double().sum()) / self._features
        return [factor * (unit if unit > 0 else 1.0) for factor in self.settings.factors]

    def _by_held_out(self, equations: Primal | Dual) -> float:
        best = (-math.inf, -math.inf, 0.0)
        for penalty in self._penalties(equations):
            trial = {"penalty": penalty}
            if (solution := solved(equations.matrix, equations.right, penalty)) is not None:
                scores, labels = equations.held_scores(solution)
                correct = 100 * float((scores.argmax(1) == labels).double().mean())
                error = squared_error(scores, labels) / len(labels)
                trial |= {"holdout_accuracy": correct, "holdout_squared_error": float(error)}
                best = max(best, (correct, -float(error), penalty))
            self.trials.append(trial)
        if best[0] < 0:
            raise ValueError("factors must be larger: the equations of none can be solved")
        equations.take_held()
        return best[2]

    def _by_cross_validation(self, equations: Primal | Dual) -> Tensor:
        penalties = self._penalties(equations)
        values, vectors = torch.linalg.eigh(equations.matrix.double())
        values.clamp_(min=0)
        along, rows = vectors.t() @ equations.right, equations.rows
        squared = along.square().sum(1)
        for penalty in penalties:
            free = rows - 1 - float((values / (values + penalty)).sum())
            left = float(equations.residual(squared, values, penalty))
            found = left * rows / free**2 if free > 0 else math.inf
            self.trials.append({"penalty": penalty, "gcv": found})
        best = min(self.trials, key=lambda trial: trial["gcv"])
        self.penalty = best["penalty"]
        return vectors @ (along / (values + self.penalty)[:, None])


def squared_error(scores: Tensor, labels: Tensor) -> Tensor:
    """The sum of ``(score - target)²``, the target 1 for an image's own class and 0 for others."""
    return (scores - F.one_hot(labels, scores.shape[1])).square().sum()
