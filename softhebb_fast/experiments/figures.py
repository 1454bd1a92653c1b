"""The figures of experiments, drawn from their results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softhebb_fast.experiments import results
from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.learning_figures import learning, traces
from softhebb_fast.experiments.results import Result, mean_and_deviation, numbers, of_cell
from softhebb_fast.plots import save

CURVES = {
    "distinct_filters": "distinct filters",
    "norm_mean": "mean norm",
    "winner_entropy": "entropy of the wins (bits)",
}


def draw(experiment: Experiment, folder: str | Path = results.FOLDER) -> list[Path]:
    """Draw the figures of an experiment into ``folder``: none if there is nothing to show."""
    folder = Path(folder)
    rows = results.read(results.path(experiment.name, folder))
    if not any(of_cell(rows, cell.name) for cell in experiment.cells):
        return []
    recorded = results.read(results.path(f"{experiment.name}_curves", folder))
    drawn = []
    if experiment.figure == "curves":
        drawn.append((curves(experiment, recorded), ""))
    elif experiment.figure == "learning":
        drawn.append((learning(experiment, recorded), ""))
    elif experiment.figure:
        drawn.append((panels(experiment, rows), ""))
    if experiment.traces:
        weights = results.read(results.path(f"{experiment.name}_symmetry", folder))
        drawn.append((traces(experiment, weights), "_symmetry"))
    return [save(figure, folder / f"{experiment.name}{part}.png") for figure, part in drawn]


def panels(experiment: Experiment, rows: list[Result]) -> Figure:
    """Test accuracies as bars or lines; what was published as open circles or dashed lines."""
    names = list(dict.fromkeys(cell.panel for cell in experiment.cells))
    figure = Figure(figsize=(7.5 * len(names), 3.8), layout="constrained")
    one_panel = _bars if experiment.figure == "bars" else _lines
    series = _names(list(experiment.cells), lambda cell: cell.series)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        cells = [cell for cell in experiment.cells if cell.panel == name]
        one_panel(axes, cells, series, rows)
        axes.set(title=name, xlabel=experiment.axis, ylabel="test accuracy (%)")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"{experiment.title} ({experiment.source})", fontsize=9)
    return figure


def curves(experiment: Experiment, rows: list[Result]) -> Figure:
    """Each layer's figures over its training: panels by data set and layer, a line a cell.

    Of several seeds, the first is drawn.
    """
    lines: dict[tuple[str, str], list[tuple[Cell, list[Result]]]] = {}
    for cell in experiment.cells:
        own = [row for row in rows if row["cell"] == cell.name and not row["limit"]]
        for layer in dict.fromkeys(row["layer"] for row in own):
            first = [r for r in own if (r["layer"], r["seed"]) == (layer, own[0]["seed"])]
            lines.setdefault((cell.panel, layer), []).append((cell, first))
    figure = Figure(figsize=(12, 2.6 * max(1, len(lines)) + 0.8), layout="constrained")
    grid = figure.subplots(max(1, len(lines)), len(CURVES), squeeze=False)
    series = _names(list(experiment.cells), lambda cell: cell.series)
    for line, ((panel, layer), cells) in zip(grid, lines.items(), strict=False):
        for axes, (column, title) in zip(line, CURVES.items(), strict=True):
            for cell, own in cells:
                i = series.index(cell.series)
                points = [(float(r["epoch"]), float(r[column])) for r in own if r[column]]
                style = {"color": f"C{i % 10}", "ls": "-" if i < 10 else "--", "lw": 1.2}
                axes.plot(*zip(*points, strict=True), **style)
            axes.set(title=f"{panel}, layer {layer}: {title}", xlabel="epoch of the layer")
        line[0].set_yscale("log", base=2)
        line[1].set_yscale("log")
    for i, name in enumerate(series):
        grid[0][0].plot([], [], color=f"C{i % 10}", ls="-" if i < 10 else "--", label=name)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _bars(axes: Axes, cells: list[Cell], series: list[str], rows: list[Result]) -> None:
    places = _names(cells, lambda c: c.x)
    width = 0.8 / len(series)
    for cell in cells:
        i = series.index(cell.series)
        x = places.index(cell.x) + (i - (len(series) - 1) / 2) * width
        values = numbers(of_cell(rows, cell.name), "test_accuracy")
        if values:
            mean, deviation = mean_and_deviation(values)
            error = deviation if len(values) > 1 else None
            axes.bar(x, mean, 0.9 * width, yerr=error, color=f"C{i}")
        if "test_accuracy" in cell.published:
            axes.plot(x, cell.published["test_accuracy"], "o", mfc="none", mec="black")
    for i, name in enumerate(series):
        axes.bar(0, 0, color=f"C{i}", label=name)
    axes.plot([], [], "o", mfc="none", mec="black", label="published")
    axes.set_xticks(range(len(places)), places)
    low = min([v for cell in cells for v in _heights(cell, rows)], default=0)
    axes.set_ylim(max(0, 10 * (low // 10) - 10), 100)


def _lines(axes: Axes, cells: list[Cell], series: list[str], rows: list[Result]) -> None:
    places = _names(cells, lambda c: c.x)
    for name in _names(cells, lambda c: c.series):
        color = f"C{series.index(name)}"
        own = [cell for cell in cells if cell.series == name]
        found = [(places.index(c.x), numbers(of_cell(rows, c.name), "test_accuracy")) for c in own]
        points = [(x, *mean_and_deviation(values)) for x, values in found if values]
        if points:
            x, mean, deviation = zip(*points, strict=True)
            axes.errorbar(x, mean, deviation, color=color, marker="o")
        published = [(places.index(c.x), c.published.get("test_accuracy")) for c in own]
        axes.plot(*zip(*published, strict=True), "--o", color=color, mfc="none", lw=0.8)
        axes.plot([], [], "-o", color=color, label=name)
    axes.plot([], [], "--o", color="black", mfc="none", lw=0.8, label="published")
    axes.set_xticks(range(len(places)), places)


def _heights(cell: Cell, rows: list[Result]) -> list[float]:
    published = cell.published.get("test_accuracy")
    ours = numbers(of_cell(rows, cell.name), "test_accuracy")
    return ours + ([] if published is None else [published])


def _names(cells: list[Cell], name: Callable[[Cell], str]) -> list[str]:
    return list(dict.fromkeys(map(name, cells)))
