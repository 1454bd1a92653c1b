"""Figures of networks that learn by backpropagation: accuracy by epoch, symmetry by step."""

from __future__ import annotations

from fnmatch import fnmatchcase

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softhebb_fast.experiments.cell import Cell, Experiment, Trace
from softhebb_fast.experiments.results import Result, mean_and_deviation

COLUMNS = 3


def learning(experiment: Experiment, rows: list[Result]) -> Figure:
    """Test accuracy by epoch, a panel a network, a line a start: mean and deviation of the seeds.

    What was published of the first and the last epoch stands beside it as open circles.
    """
    found = {row["cell"] for row in rows if not row["limit"]}
    cells = [cell for cell in experiment.cells if cell.name in found]
    names = list(dict.fromkeys(cell.panel for cell in cells))
    figure, axes = _grid(len(names))
    for one, name in zip(axes, names, strict=False):
        for i, cell in enumerate(c for c in cells if c.panel == name):
            _accuracy(one, cell, [row for row in rows if row["cell"] == cell.name], f"C{i}")
        one.set(title=name, xlabel="epoch", ylabel="test accuracy (%)")
        one.legend(frameon=False, fontsize=7)
    figure.suptitle(f"{experiment.title}; open circles: published", fontsize=9)
    return figure


def traces(experiment: Experiment, rows: list[Result]) -> Figure:
    """The experiment's traces, a panel each: a line a run and weight, of the first seed."""
    shown = [trace for trace in experiment.traces if _of(trace, rows)]
    figure, axes = _grid(len(shown))
    labels = {cell.name: cell.series or cell.label for cell in experiment.cells}
    for one, trace in zip(axes, shown, strict=False):
        for (cell, weight), points in _of(trace, rows).items():
            several = "*" in trace.weight
            name = f"{labels.get(cell, cell)}, {weight}" if several else labels.get(cell, cell)
            one.plot(*zip(*points, strict=True), marker=".", lw=1, label=name)
        one.set_xscale("symlog", linthresh=1)
        least = min((abs(y) for y in _values(trace, rows) if y), default=0.0)
        if trace.log and least:
            one.set_yscale("symlog", linthresh=least)  # an exact 0 stands at the bottom
        one.set(title=trace.title, xlabel="step")
        one.legend(frameon=False, fontsize=6)
    return figure


def _accuracy(axes: Axes, cell: Cell, rows: list[Result], color: str) -> None:
    by_epoch: dict[float, list[float]] = {}
    for row in rows:
        if row["test_accuracy"] and not row["limit"]:
            by_epoch.setdefault(float(row["epoch"]), []).append(float(row["test_accuracy"]))
    if not by_epoch:
        return
    epochs = sorted(by_epoch)
    mean, deviation = zip(*(mean_and_deviation(by_epoch[epoch]) for epoch in epochs), strict=True)
    axes.errorbar(epochs, mean, deviation, color=color, marker=".", lw=1.2, label=cell.series)
    for epoch, column in ((1, "first_epoch"), (epochs[-1], "test_accuracy")):
        if column in cell.published:
            axes.plot(epoch, cell.published[column], "o", mfc="none", mec=color)


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


def _values(trace: Trace, rows: list[Result]) -> list[float]:
    return [y for points in _of(trace, rows).values() for _, y in points]


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    lines, across = -(-max(count, 1) // COLUMNS), min(COLUMNS, max(count, 1))
    figure = Figure(figsize=(4.6 * across, 3.4 * lines + 0.3), layout="constrained")
    axes = list(figure.subplots(lines, across, squeeze=False).flat)
    for one in axes[count:]:
        one.set_axis_off()
    return figure, axes
