"""Figures of networks that learn by backpropagation: accuracy by epoch, symmetry by step."""

from __future__ import annotations

from fnmatch import fnmatchcase

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softhebb_fast.experiments.cell import Cell, Experiment, Trace
from softhebb_fast.experiments.results import Result, mean_and_deviation
from softhebb_fast.pictures.curves import symlog
from softhebb_fast.pictures.style import grid, legend, line, styled, whole_epochs, wrapped

COLUMNS = 2
UNITS = {
    "distinct": "filters",
    "deviation": "largest difference of weights",
    "forward_correlation": "correlation, 1 = equal",
    "gradient": "largest |gradient|",
    "stable_rank": "rank",
    "effective_rank": "rank",
    "change_rank": "rank",
}


@styled
def learning(experiment: Experiment, rows: list[Result]) -> Figure:
    """Test accuracy by epoch, a panel a network, a line a start: mean and deviation of the seeds.

    What was published of the first and the last epoch stands beside it as open circles.
    """
    found = {row["cell"] for row in rows if not row["limit"]}
    cells = [cell for cell in experiment.cells if cell.name in found]
    names = list(dict.fromkeys(cell.panel for cell in cells))
    series = list(dict.fromkeys(cell.series for cell in cells))
    figure, axes = grid(len(names), COLUMNS, 2.6)
    for one, name in zip(axes, names, strict=False):
        epochs: list[float] = []
        for cell in (c for c in cells if c.panel == name):
            own = [row for row in rows if row["cell"] == cell.name]
            epochs += _accuracy(one, cell, own, series.index(cell.series))
        one.set(title=wrapped(name, 48), ylabel="test accuracy (%)")
        one.grid(visible=True)
        whole_epochs(one, epochs)
        legend(one)
    circles = "; open circles: published" * any(cell.published for cell in cells)
    figure.suptitle(f"{experiment.title}{circles}")
    return figure


@styled
def traces(experiment: Experiment, rows: list[Result]) -> Figure:
    """The experiment's traces, a panel each: a line a run and weight, of the first seed."""
    shown = [trace for trace in experiment.traces if _of(trace, rows)]
    across = 3 if len(shown) > 3 and len(shown) % 3 == 0 else COLUMNS
    figure, axes = grid(len(shown), across, 2.5)
    labels = {cell.name: cell.series or cell.label for cell in experiment.cells}
    for one, trace in zip(axes, shown, strict=False):
        found = _of(trace, rows)
        runs = {cell for cell, _ in found}
        for i, ((cell, weight), points) in enumerate(found.items()):
            run = labels.get(cell, cell)
            several = "*" in trace.weight
            name = run if not several else weight if len(runs) == 1 else f"{run}, {weight}"
            one.plot(*zip(*points, strict=True), **line(i), label=name)
        one_run = "*" in trace.weight and len(runs) == 1
        one.set_xscale("symlog", linthresh=1)
        if trace.log:
            symlog(one, [y for points in found.values() for _, y in points])
        one.set(
            title=wrapped(trace.title, 115 // across),
            xlabel="step (0, then logarithmic)",
            ylabel=UNITS.get(trace.column, trace.column.replace("_", " ")),
        )
        one.grid(visible=True)
        title = labels.get(next(iter(runs))) if one_run else None
        legend(one, fontsize=6.5, ncols=1 + (len(found) > 6), title=title, title_fontsize=6.5)
    return figure


def _accuracy(axes: Axes, cell: Cell, rows: list[Result], number: int) -> list[float]:
    """Draw the mean over the seeds; returns the epochs."""
    by_epoch: dict[float, list[float]] = {}
    for row in rows:
        if row["test_accuracy"] and not row["limit"]:
            by_epoch.setdefault(float(row["epoch"]), []).append(float(row["test_accuracy"]))
    if not by_epoch:
        return []
    epochs, style = sorted(by_epoch), line(number)
    mean, deviation = zip(*(mean_and_deviation(by_epoch[epoch]) for epoch in epochs), strict=True)
    if max(map(len, by_epoch.values())) > 1:
        seeds = f", {max(map(len, by_epoch.values()))} seeds"
        axes.errorbar(epochs, mean, deviation, **style, label=cell.series + seeds)
    else:
        axes.plot(epochs, mean, **style, label=cell.series)
    for epoch, column in ((1, "first_epoch"), (epochs[-1], "test_accuracy")):
        if column in cell.published:
            axes.plot(epoch, cell.published[column], "o", mfc="none", mec=style["color"], ms=6)
    return epochs


def _of(trace: Trace, rows: list[Result]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(step, value) by cell and weight."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    seeds: dict[str, str] = {}
    for row in rows:
        if row["limit"] or not fnmatchcase(row["cell"], trace.cells) or not row[trace.column]:
            continue
        if not fnmatchcase(row["weight"], trace.weight):
            continue
        if seeds.setdefault(row["cell"], row["seed"]) == row["seed"]:
            points = found.setdefault((row["cell"], row["weight"]), [])
            points.append((float(row["step"]), float(row[trace.column])))
    return found
