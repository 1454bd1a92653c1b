"""What an experiment's results are held against: a value each, and the range it should lie in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from softhebb_fast.experiments import results
from softhebb_fast.experiments.results import Result


@dataclass(frozen=True)
class Evidence:
    """The results of an experiment: one row a run, an epoch, a weight at a step, and a check."""

    runs: list[Result]
    epochs: list[Result]
    weights: list[Result]
    checks: dict[str, float]

    @classmethod
    def read(cls, name: str, folder: Path = results.FOLDER) -> Evidence:
        """Those of the experiment ``name`` in ``folder``."""
        tables = [
            [row for row in results.read(results.path(f"{name}{part}", folder)) if not row["limit"]]
            for part in ("", "_curves", "_symmetry")
        ]
        checks = results.read(results.path(f"{name}_checks", folder))
        return cls(*tables, {row["check"]: float(row["value"]) for row in checks})

    def mean(self, cell: str, column: str = "test_accuracy") -> float:
        """The mean of a column over the seeds of a cell, NaN where there are none."""
        values = results.numbers(results.of_cell(self.runs, cell), column)
        return statistics.fmean(values) if values else math.nan

    def spread(self, cell: str, seeds: int) -> float:
        """The deviation of the test accuracy over ``seeds`` seeds or more, NaN over fewer."""
        values = results.numbers(results.of_cell(self.runs, cell), "test_accuracy")
        return results.mean_and_deviation(values)[1] if len(values) >= seeds else math.nan

    def at_epoch(self, cell: str, epoch: float, column: str = "test_accuracy") -> float:
        """The mean over the seeds after that epoch, NaN where there are none."""
        rows = [r for r in self.epochs if r["cell"] == cell and float(r["epoch"]) == epoch]
        values = results.numbers(rows, column)
        return statistics.fmean(values) if values else math.nan

    def curve(self, cell: str, column: str) -> list[tuple[float, float]]:
        """(epoch, value) of the first seed of a cell."""
        return self._first(self.epochs, cell, "epoch", column)

    def trace(self, cell: str, weight: str, column: str) -> list[tuple[float, float]]:
        """(step, value) of the first seed of a cell, of the weights that fit the glob."""
        rows = [row for row in self.weights if fnmatchcase(row["weight"], weight)]
        return self._first(rows, cell, "step", column)

    @staticmethod
    def _first(rows: list[Result], cell: str, x: str, column: str) -> list[tuple[float, float]]:
        own = [row for row in rows if row["cell"] == cell]
        return [
            (float(row[x]), float(row[column]))
            for row in own
            if row["seed"] == own[0]["seed"] and row[column]
        ]


@dataclass(frozen=True)
class Claim:
    """A figure that should lie between ``at_least`` and ``at_most``.

    Attributes:
        name: with which it is referred to.
        text: what is measured.
        measure: takes the figure from the results; NaN where it cannot be had.
    """

    name: str
    text: str
    measure: Callable[[Evidence], float]
    at_least: float = -math.inf
    at_most: float = math.inf

    def met(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most

    def verdict(self, evidence: Evidence) -> str:
        """yes or no, or nothing where there is nothing to compare."""
        value = self.measure(evidence)
        return "" if math.isnan(value) else "yes" if self.met(value) else "**no**"

    @property
    def wanted(self) -> str:
        low, high = f"{self.at_least:.6g}", f"{self.at_most:.6g}"
        if self.at_least == self.at_most:
            return low
        if math.isinf(self.at_least):
            return f"≤ {high}"
        return f"≥ {low}" if math.isinf(self.at_most) else f"{low} to {high}"


def claims_table(claims: Iterable[Claim], evidence: Evidence) -> str:
    """claim | wanted | measured | met, as Markdown."""
    lines = ["| claim | | wanted | measured | met |", "|---|---|---|---|---|"]
    for claim in claims:
        value = claim.measure(evidence)
        told = "no figure" if math.isnan(value) else f"{value:.5g}"
        parts = (claim.name, claim.text, claim.wanted, told, claim.verdict(evidence))
        lines.append("| " + " | ".join(parts) + " |")
    return "\n".join(lines)


def near(value: float, tolerance: float) -> dict[str, float]:
    """The range of a claim: ``value`` ± ``tolerance``."""
    return {"at_least": value - tolerance, "at_most": value + tolerance}
