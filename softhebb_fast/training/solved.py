"""What the linear classifiers that are solved, instead of trained, have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from softhebb_fast.data import permutation
from softhebb_fast.scalars import between, plain, positive, whole
from softhebb_fast.training import memory

SCORED = 1000  # rows in float64 at a time


class SolverSettings(Protocol):
    """What the settings of every such classifier say.

    ``error`` is what tests measure beside the accuracy, one of ``training.classifier.ERRORS``.
    """

    penalty: str | float
    holdout: float
    standardise: bool
    factors: Sequence[float]
    error: ClassVar[str]

    def classifier(self, classes: int) -> SolvedClassifier:
        """The classifier of so many ``classes``."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""


class SolvedClassifier(ABC):
    """A linear classifier that takes features in chunks and is then solved.

    ``fit`` takes them at once. Where they are not there at once, ``begin(samples, features)``,
    ``add(x, labels)`` for every chunk and ``solve()`` do the same.

    Attributes:
        name: of this kind.
        remedy: what to do where memory does not suffice.
        classes: how many there are.
        settings: how it is fitted.
        weight, bias: float64 ``[classes, F]`` and ``[classes]``, None before the fit.
        penalty: the λ that was taken.
        trials: what was tried, the least penalty first.
    """

    name: str
    remedy: str = "take fewer layers, a smaller grid or fewer filters"
    classes: int
    settings: SolverSettings
    weight: Tensor | None
    bias: Tensor | None
    penalty: float | None
    trials: list[dict[str, float]]

    def __init__(self, classes: int, settings: SolverSettings) -> None:
        self.classes, self.settings = whole("classes", classes, 2), settings
        self.weight = self.bias = self.penalty = None
        self.trials = []
        self._samples = self._features = self._seen = self._held = 0

    def fit(self, x: Tensor, labels: Tensor, *, chunk: int = 1000, seed: int = 0) -> Self:
        """Fit to features ``x [N, ...]`` and ``labels [N]``, ``chunk`` rows at a time.

        Raises as ``begin``, ``add`` and ``solve`` do. ``seed`` draws what is held out.
        """
        chunk, seed, rows = whole("chunk", chunk, 1), whole("seed", seed), self._checked(x, labels)
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
        count = round(self.settings.holdout * samples)
        if not 0 < count < samples:
            raise ValueError(
                f"holdout must hold out one of {samples} images at least, and not all; got "
                f"{self.settings.holdout}"
            )
        held = torch.zeros(samples, dtype=torch.bool)
        held[permutation(samples, seed)[:count]] = True
        return held

    def begin(self, samples: int, features: int, device: torch.device | str = "cpu") -> Self:
        """Make ready for so many ``samples`` and ``features``, on ``device``.

        Raises ValueError, with the memory needed and the memory free, where it does not suffice.
        """
        samples, features = whole("samples", samples, 2), whole("features", features, 1)
        self._samples = 0
        self._forget()
        what = f"the {self.name} classifier of {features} features from {samples} images"
        memory.require(self.bytes_needed(samples, features), device, what, self.remedy)
        self._begin(samples, features, torch.device(device))
        self._samples, self._features, self._seen, self._held = samples, features, 0, 0
        self.weight = self.bias = self.penalty = None
        self.trials = []
        return self

    @torch.no_grad()
    def add(self, x: Tensor, labels: Tensor, held: Tensor | None = None) -> None:
        """Take in a chunk of features ``x [M, ...]`` with its ``labels`` int64 ``[M]``.

        ``held`` (bool ``[M]``) tells which rows are held out, for ``penalty="holdout"``.

        Raises TypeError or ValueError for other shapes, dtypes, labels or features that are not
        finite, and for more samples than were announced; nothing of the chunk is then taken in.
        """
        if not self._samples:
            raise ValueError("begin(samples, features) must come before add")
        rows = self._checked(x, labels)
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
            if not isinstance(held, Tensor):
                raise TypeError(f"held must be a torch.Tensor; got {type(held).__name__}")
            if held.dtype != torch.bool or held.shape != labels.shape:
                raise ValueError(
                    f"held must be bool {tuple(labels.shape)}; got {held.dtype} {tuple(held.shape)}"
                )
            held = held.to(rows.device)
        if not len(rows):
            return
        self._take(rows, labels, held)
        self._held += 0 if held is None else int(held.sum())
        self._seen += len(rows)

    @torch.no_grad()
    def solve(self) -> Self:
        """Choose the penalty and solve, from all that was taken in.

        Raises ValueError for fewer samples than announced, for ``penalty="holdout"`` with no row or
        all rows held out, and where it cannot be solved in float64.
        """
        if not self._samples or self._seen < self._samples:
            raise ValueError(
                f"solve needs the samples that were announced; got {self._seen} of them"
            )
        if self.settings.penalty == "holdout" and not 0 < self._held < self._samples:
            raise ValueError(
                f"held must hold out some of {self._samples} rows for penalty='holdout', and not "
                f"all; got {self._held}"
            )
        try:
            self.weight, self.bias = self._solve()
        finally:
            self._samples = self._seen = 0
            self._forget()
        return self

    def scores(self, x: Tensor) -> Tensor:
        """The scores ``[N, classes]`` of features ``x [N, ...]``, float64."""
        if self.weight is None:
            raise ValueError("the classifier must be fitted before it gives scores")
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a torch.Tensor; got {type(x).__name__}")
        rows = x.flatten(1) if x.dim() > 1 else x
        if x.dim() < 2 or rows.shape[1] != self.weight.shape[1]:
            raise ValueError(
                f"x must be [N, ...] of {self.weight.shape[1]} features; got {tuple(x.shape)}"
            )
        parts = [part.double() @ self.weight.t() for part in rows.split(SCORED)]
        return torch.cat(parts) + self.bias

    def predict(self, x: Tensor) -> Tensor:
        """The class ``[N]`` with the largest score, of features ``x [N, ...]``."""
        return self.scores(x).argmax(1)

    @abstractmethod
    def bytes_needed(self, samples: int, features: int) -> int:
        """The most memory that a fit to so many ``samples`` and ``features`` takes at a time."""

    @abstractmethod
    def _begin(self, samples: int, features: int, device: torch.device) -> None:
        """Make room."""

    @abstractmethod
    def _take(self, rows: Tensor, labels: Tensor, held: Tensor | None) -> None:
        """Take in rows ``[M, F]`` that are as they should be."""

    @abstractmethod
    def _solve(self) -> tuple[Tensor, Tensor]:
        """The weight and the bias; ``penalty`` and ``trials`` are set."""

    @abstractmethod
    def _forget(self) -> None:
        """Give back what ``_begin`` made."""

    def _checked(self, x: Tensor, labels: Tensor) -> Tensor:
        """``x`` as ``[M, F]``. Raises unless both are what a fit takes."""
        for name, tensor in (("x", x), ("labels", labels)):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{name} must be a torch.Tensor; got {type(tensor).__name__}")
        if not x.is_floating_point() or x.dim() < 2:
            raise ValueError(f"x must be floating point [N, ...]; got {x.dtype} {tuple(x.shape)}")
        if labels.dtype != torch.int64 or labels.shape != x.shape[:1]:
            raise ValueError(
                f"labels must be int64 [{len(x)}]; got {labels.dtype} {tuple(labels.shape)}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise ValueError(
                f"labels must lie in 0 .. {self.classes - 1}; got {int(labels.min())} .. "
                f"{int(labels.max())}"
            )
        if not x.isfinite().all():
            raise ValueError("x must be finite; it holds NaN or infinity")
        return x.flatten(1)


def check_settings(settings: SolverSettings, chosen: Sequence[str], least: Any) -> None:
    """Write the values of a frozen dataclass as they should be.

    Raises TypeError or ValueError for a penalty that is neither among ``chosen`` nor a number that
    ``least`` lets through, and for other values out of their range.
    """
    if settings.penalty not in chosen:
        if isinstance(settings.penalty, str):
            known = ", ".join(chosen)
            raise ValueError(
                f"penalty must be a number or one of {known}; got {settings.penalty!r}"
            )
        object.__setattr__(settings, "penalty", least("penalty", settings.penalty))
    object.__setattr__(settings, "holdout", between("holdout", settings.holdout, 0, 1))
    object.__setattr__(settings, "standardise", plain(settings.standardise))
    if not isinstance(settings.standardise, bool):
        raise TypeError(f"standardise must be a bool; got {settings.standardise!r}")
    if not isinstance(settings.factors, Sequence) or isinstance(settings.factors, str):
        raise TypeError(f"factors must be a list of numbers; got {settings.factors!r}")
    factors = tuple(positive("factors", factor) for factor in settings.factors)
    if not factors or list(factors) != sorted(set(factors)):
        raise ValueError(f"factors must rise, one at least; got {settings.factors!r}")
    object.__setattr__(settings, "factors", factors)
