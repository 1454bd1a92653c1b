"""What an experiment is made of: cells, each a run to be made with several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from softhebb_fast.training.config import RunConfig

# Fields that do not make another experiment.
FREE = ("backend", "device", "cache_gib", "precision", "autocast")


@dataclass(frozen=True)
class Cell:
    """One configuration of an experiment, and what was published for it.

    Attributes:
        name: names the run's folder; cells of two experiments that share a run share the name.
        label: its row in tables.
        run: fields of `RunConfig`, without the seed.
        published: published figures by column of the results; accuracies are per cent.
        at_least: the test accuracy that counts as reproduced; None takes ``within``.
        within: the distance from the published test accuracy that counts as reproduced; None for
            a published figure that is no goal.
        panel, series, x: its place in the experiment's figure.
    """

    name: str
    label: str
    run: Mapping[str, Any]
    published: Mapping[str, Any] = field(default_factory=dict)
    at_least: float | None = None
    within: float | None = 1.0
    panel: str = ""
    series: str = ""
    x: str = ""

    def config(self, seed: int, **changes: Any) -> RunConfig:
        """The run of this cell with that seed, the published protocol written out."""
        return RunConfig(**{**self.run, "seed": seed, **changes}).resolved()

    def reproduced(self, accuracy: float) -> bool | None:
        """Whether a test accuracy counts as reproduced; None where there is no goal."""
        if self.at_least is not None:
            return accuracy >= self.at_least
        published = self.published.get("test_accuracy")
        if published is None or self.within is None:
            return None
        return abs(accuracy - published) <= self.within


@dataclass(frozen=True)
class Experiment:
    """Cells that belong to one table or figure.

    Attributes:
        name: as the command takes it.
        title: heading in the results.
        source: where the published figures stand.
        text: what it asks, what was found, which traps there are; Markdown.
        cells: in the order of the table.
        columns: columns of the results that the table compares, with their headings.
        figure: "bars", "lines", "curves" or "" for none.
        axis: what the x of its cells counts, for the figure.
        verdict: heading of the column that says whether a cell came out; "" for none.
    """

    name: str
    title: str
    source: str
    text: str
    cells: tuple[Cell, ...]
    columns: Mapping[str, str] = field(default_factory=lambda: {"test_accuracy": "test %"})
    figure: str = ""
    axis: str = ""
    verdict: str = "reproduced"

    def matching(self, pattern: str) -> list[Cell]:
        """The cells whose names match ``pattern`` (``*``, ``?``, ``[...]``).

        Raises ValueError if there are none.
        """
        found = [cell for cell in self.cells if fnmatchcase(cell.name, pattern)]
        if not found:
            names = ", ".join(cell.name for cell in self.cells)
            raise ValueError(f"cells must match some of {names}; got {pattern!r}")
        return found

    def cell(self, name: str) -> Cell:
        """The cell of that name. Raises ValueError if there is none."""
        found = {cell.name: cell for cell in self.cells}
        if name not in found:
            raise ValueError(f"cell must be one of {', '.join(found)}; got {name!r}")
        return found[name]


def differences(made: RunConfig, wanted: RunConfig) -> list[str]:
    """How two runs differ in anything but where they run; an "auto" backend fits every other."""
    made, wanted = made.resolved(), wanted.resolved()
    if "auto" not in (made.backend, wanted.backend) and made.backend != wanted.backend:
        return [f"backend: {made.backend!r} there, {wanted.backend!r} here"]
    wanted = replace(wanted, **{name: getattr(made, name) for name in FREE})
    a, b = made.to_dict(), wanted.to_dict()
    return [
        f"{f.name}: {a[f.name]!r} there, {b[f.name]!r} here"
        for f in fields(RunConfig)
        if a[f.name] != b[f.name]
    ]
