"""What an experiment is made of: cells, each a run to be made with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from softhebb_fast.experiments.claims import Claim
from softhebb_fast.naming import did_you_mean
from softhebb_fast.training.config import Config, RunConfig

# Fields that do not make another experiment.
FREE = ("backend", "device", "cache_gib", "precision", "autocast")


@dataclass(frozen=True)
class Cell:
    """One configuration of an experiment, and what was published for it.

    Attributes:
        name: names the run's folder; cells of two experiments that share a run share the name.
        label: its row in tables.
        run: fields of the configuration, without the seed.
        published: published figures by column of the results; accuracies are per cent.
        published_error: the standard error of the published test accuracy, 0 if it is not known.
        comparable: whether that accuracy is of this configuration; False for one that stands
            beside it.
        target: the test accuracy that this project wants to reach, where nothing was published.
        panel, series, x: its place in the experiment's figure.
        kind: of the configuration.
        gpu: what a run costs on a GPU, of one that is made nowhere else; "" for all others.
    """

    name: str
    label: str
    run: Mapping[str, Any]
    published: Mapping[str, Any] = field(default_factory=dict)
    published_error: float = 0.0
    comparable: bool = True
    target: float | None = None
    panel: str = ""
    series: str = ""
    x: str = ""
    kind: type[Config] = RunConfig
    gpu: str = ""

    def config(self, seed: int, **changes: Any) -> Config:
        """The run of this cell with that seed, the published protocol written out.

        Raises ValueError for changes of what its configuration does not have.
        """
        if unknown := sorted(changes.keys() - {f.name for f in fields(self.kind)}):
            raise ValueError(f"the runs of {self.name} know nothing of {', '.join(unknown)}")
        return self.kind(**{**self.run, "seed": seed, **changes}).resolved()


@dataclass(frozen=True)
class Trace:
    """A panel of an experiment's second figure: a figure of `symmetry` over the steps of runs.

    Attributes:
        title: heading, with the unit.
        cells: glob of the cells' names.
        weight: glob of the weights' names; where it fits several, each is a line.
        column: of the symmetry's figures.
        log: whether the figure's axis is logarithmic; that of the steps is.
    """

    title: str
    cells: str
    weight: str
    column: str
    log: bool = True


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
        figure: "bars", "lines", "curves", "learning" or "" for none.
        axis: what the x of its cells counts, for the figure.
        traces: panels of a second figure.
        checks: what is measured without a run, by name.
        claims: what the results are held against.
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
    traces: tuple[Trace, ...] = ()
    checks: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    def matching(self, *patterns: str) -> list[Cell]:
        """The cells whose names match any of ``patterns`` (``*``, ``?``, ``[...]``), each once.

        Raises ValueError for a pattern that none matches.
        """
        names = list(dict.fromkeys(cell.name for cell in self.cells))
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = did_you_mean(pattern, names)
                raise ValueError(
                    f"cells must match some of {', '.join(names)}; got {pattern!r}{hint}"
                )
        matched = {n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)}
        return [cell for cell in self.cells if cell.name in matched]

    def cell(self, name: str) -> Cell:
        """The cell of that name. Raises ValueError if there is none."""
        found = {cell.name: cell for cell in self.cells}
        if name not in found:
            hint = did_you_mean(name, found)
            raise ValueError(f"cell must be one of {', '.join(found)}; got {name!r}{hint}")
        return found[name]


def differences(made: Config, wanted: Config) -> list[str]:
    """How two runs differ in anything but where they run; an "auto" backend fits every other."""
    if made.kind != wanted.kind:
        return [f"kind: {made.kind!r} there, {wanted.kind!r} here"]
    made, wanted = made.resolved(), wanted.resolved()
    backends = {getattr(config, "backend", "auto") for config in (made, wanted)}
    if len(backends) > 1 and "auto" not in backends:
        return [f"backend: {made.backend!r} there, {wanted.backend!r} here"]
    free = {f.name for f in fields(made)} & set(FREE)
    wanted = replace(wanted, **{name: getattr(made, name) for name in free})
    a, b = made.to_dict(), wanted.to_dict()
    return [f"{name}: {a[name]!r} there, {b[name]!r} here" for name in a if a[name] != b[name]]
