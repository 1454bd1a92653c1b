"""The linear classifier in closed form: ridge regression on one target a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.scalars import at_least_zero, between, plain, whole
from softhebb_fast.training import memory
from softhebb_fast.training.cholesky import solved
from softhebb_fast.training.labelled import checked_held, checked_rows, drawn, rising, scores
from softhebb_fast.training.ranks import Ranks
from softhebb_fast.training.ridge_forms import Dual, Primal

CHOSEN = ("holdout", "gcv")
PRODUCTS = {"float32": torch.float32, "float64": torch.float64}
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
        products: dtype of the products that are summed in float64, ``"float32"`` or ``"float64"``.
        form: ``"primal"`` solves F equations, ``"dual"`` N; ``"auto"`` takes the fewer.

    Raises TypeError or ValueError for other values, naming them.

    Source: Hoerl and Kennard 1970; Golub, Heath and Wahba 1979 (generalised cross-validation).
    """

    penalty: str | float = "holdout"
    holdout: float = 0.1
    standardise: bool = False
    factors: Sequence[float] = FACTORS
    products: str = "float32"
    form: str = "auto"

    def __post_init__(self) -> None:
        if self.penalty not in CHOSEN:
            if isinstance(self.penalty, str):
                raise ValueError(
                    f"penalty must be a number or one of {', '.join(CHOSEN)}; got {self.penalty!r}"
                )
            object.__setattr__(self, "penalty", at_least_zero("penalty", self.penalty))
        object.__setattr__(self, "holdout", between("holdout", self.holdout, 0, 1))
        object.__setattr__(self, "standardise", plain(self.standardise))
        if not isinstance(self.standardise, bool):
            raise TypeError(f"standardise must be a bool; got {self.standardise!r}")
        object.__setattr__(self, "factors", rising("factors", self.factors))
        for name, known in (("products", PRODUCTS), ("form", ("auto", *FORMS))):
            if getattr(self, name) not in known:
                allowed = ", ".join(known)
                raise ValueError(f"{name} must be one of {allowed}; got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"factors": list(self.factors)}


class RidgeClassifier:
    """A linear classifier of features, solved instead of trained.

        classifier = RidgeClassifier(10, penalty="gcv").fit(features, labels)
        classifier.predict(features)

    Where the features are not there at once, ``begin(samples, features)``, ``add(x, labels)`` for
    every chunk and ``solve()`` do what ``fit`` does. Where several processes have them, each adds
    its own and skips those of the others, ``shift`` is the same for all, and ``add_up`` comes
    before ``solve``.

    Args:
        classes: how many there are; a class without images is never predicted.
        penalty, holdout, standardise, factors, products, form: as in ``RidgeSettings``.

    Attributes:
        weight, bias: float64 ``[classes, F]`` and ``[classes]``, None before the fit.
        penalty: the λ that was taken.
        form: ``"primal"`` or ``"dual"``.
        trials: what was tried, in order: each ``penalty``, with ``gcv``, or ``holdout_accuracy`` in
            per cent and ``holdout_squared_error``, summed over the classes, the mean of an image;
            without these where the equations could not be solved.
    """

    classes: int
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
        form: str = "auto",
    ) -> None:
        self.classes = whole("classes", classes, 2)
        self.settings = RidgeSettings(penalty, holdout, standardise, factors, products, form)
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.penalty: float | None = None
        self.form: str | None = None
        self.trials: list[dict[str, float]] = []
        self._equations: Primal | Dual | None = None

    def fit(
        self, x: Tensor, labels: Tensor, *, chunk: int = 1000, seed: int = 0
    ) -> RidgeClassifier:
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
    ) -> RidgeClassifier:
        """Make ready for so many ``samples`` and ``features``, on ``device``.

        Raises ValueError, with the memory needed and the memory free, where it does not suffice.
        """
        samples, features = whole("samples", samples, 2), whole("features", features, 1)
        self._equations, form = None, self._form(samples, features)
        needed = self.bytes_needed(samples, features)
        remedy = "take fewer layers, a smaller grid or fewer filters"
        if self.settings.penalty == "gcv":
            remedy += ", or penalty=holdout, which needs less"
        what = f"the ridge classifier of {features} features from {samples} images"
        memory.require(needed, device, what, remedy)
        dtype = PRODUCTS[self.settings.products]
        self._equations = FORMS[form](samples, features, self.classes, dtype, torch.device(device))
        self.form, self._samples, self._features = form, samples, features
        self._seen = self._held = 0
        self.weight = self.bias = self.penalty = None
        self.trials = []
        return self

    def bytes_needed(self, samples: int, features: int) -> int:
        """The most memory that a fit to so many ``samples`` and ``features`` takes at a time."""
        settings, form = self.settings, FORMS[self._form(samples, features)]
        held = round(settings.holdout * samples) if settings.penalty == "holdout" else 0
        itemsize, spectrum = PRODUCTS[settings.products].itemsize, settings.penalty == "gcv"
        return form.bytes_of(samples, features, held, itemsize, spectrum)

    @property
    def shift(self) -> Tensor | None:
        """What rows are counted from, ``[F]``; the mean of the first chunk unless it was set."""
        return self._equations.shift

    @shift.setter
    def shift(self, shift: Tensor) -> None:
        self._equations.shift = shift.to(self._equations.dtype)

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

    @torch.no_grad()
    def add(self, x: Tensor, labels: Tensor, held: Tensor | None = None) -> None:
        """Take in a chunk of features ``x [M, ...]`` with its ``labels`` int64 ``[M]``.

        ``held`` (bool ``[M]``) tells which rows are held out, for ``penalty="holdout"``.

        Raises TypeError or ValueError for other shapes, dtypes, labels or features that are not
        finite, and for more samples than were announced; nothing of the chunk is then taken in.
        """
        if self._equations is None:
            raise ValueError("begin(samples, features) must come before add")
        rows = checked_rows(x, labels, self.classes)
        if rows.shape[1] != self._features:
            raise ValueError(f"x must have {self._features} features; got {tuple(x.shape)}")
        if self._seen + len(rows) > self._samples:
            raise ValueError(
                f"x must bring the samples to {self._samples} at most, as announced; got "
                f"{self._seen + len(rows)}"
            )
        if held is not None:
            if self.settings.penalty != "holdout":
                raise ValueError(f"held is for penalty='holdout'; got {self.settings.penalty!r}")
            held = checked_held(held, labels)
            self._held += int(held.sum())
        self._equations.add(rows, labels, held)
        self._seen += len(rows)

    @torch.no_grad()
    def solve(self) -> RidgeClassifier:
        """Choose the penalty and solve, from all that was taken in.

        Raises ValueError for fewer samples than announced, for ``penalty="holdout"`` with no row or
        all rows held out, and where the equations cannot be solved in float64.
        """
        if self._equations is None or self._seen < self._samples:
            seen = 0 if self._equations is None else self._seen
            raise ValueError(f"solve needs the samples that were announced; got {seen} of them")
        equations, self._equations = self._equations, None
        chosen = self.settings.penalty
        if chosen == "holdout" and not 0 < self._held < self._samples:
            raise ValueError(
                f"held must hold out some of {self._samples} rows for penalty='holdout', and not "
                f"all; got {self._held}"
            )
        equations.prepare(self.settings.standardise)
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
                    "that cannot be solved in float64; products='float64' may help as well"
                )
        weight, bias = equations.weight(solution)
        self.bias = bias - equations.shift.double() @ weight
        self.weight = weight.t().contiguous()
        return self

    def scores(self, x: Tensor) -> Tensor:
        """The scores ``[N, classes]`` of features ``x [N, ...]``, float64."""
        return scores(x, self.weight, self.bias)

    def predict(self, x: Tensor) -> Tensor:
        """The class ``[N]`` with the largest score, of features ``x [N, ...]``."""
        return self.scores(x).argmax(1)

    def _penalties(self, equations: Primal | Dual) -> list[float]:
        unit = float(equations.matrix.diagonal().sum()) / self._features
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
        values, vectors = torch.linalg.eigh(equations.matrix)
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
