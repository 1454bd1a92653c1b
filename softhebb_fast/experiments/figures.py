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
from softhebb_fast.pictures.style import (
    GREY,
    OURS,
    PUBLISHED,
    WIDTH,
    grid,
    line,
    styled,
    whole_epochs,
    wrapped,
)
from softhebb_fast.plots import save

PARTS = ("", "_curves", "_symmetry")  # of a figure's file name, in the order of the page
CURVES = {
    "distinct_filters": "distinct filters",
    "norm_mean": "mean norm",
    "winner_entropy": "entropy of the wins (bits)",
}
ROW = 0.2  # inches of a bar


def draw(experiment: Experiment, folder: str | Path = results.FOLDER) -> list[Path]:
    """Draw the figures of an experiment into ``folder``: none if there is nothing to show."""
    folder = Path(folder)
    rows = results.read(results.path(experiment.name, folder))
    if not any(of_cell(rows, cell.name) for cell in experiment.cells):
        return []
    recorded = results.read(results.path(f"{experiment.name}_curves", folder))
    drawn = []
    if experiment.figure in ("bars", "curves"):
        drawn.append((bars(experiment, rows), ""))
    if experiment.figure == "curves":
        drawn.append((curves(experiment, recorded), "_curves"))
    if experiment.figure == "lines":
        drawn.append((lines(experiment, rows), ""))
    if experiment.figure == "learning":
        drawn.append((learning(experiment, recorded), ""))
    if experiment.traces:
        weights = results.read(results.path(f"{experiment.name}_symmetry", folder))
        drawn.append((traces(experiment, weights), "_symmetry"))
    return [save(figure, folder / f"{experiment.name}{part}.png") for figure, part in drawn]


@styled
def bars(experiment: Experiment, rows: list[Result]) -> Figure:
    """Test accuracy as bars from 0, one a cell, the published one as an open circle.

    Whiskers are the deviation over the seeds, where there are several. Cells of one ``x`` stand
    together; panels of several data sets stand side by side.
    """
    names = list(dict.fromkeys(cell.panel for cell in experiment.cells))
    by_panel = [[cell for cell in experiment.cells if cell.panel == name] for name in names]
    several = len(_names(list(experiment.cells), lambda c: c.series)) > 1
    most = max(len(cells) + several * len(_names(cells, lambda c: c.x)) for cells in by_panel)
    figure = Figure(figsize=(WIDTH, ROW * most + 1.1), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharex=True)[0]
    labels = [
        _bars(axes, cells, rows, experiment.axis, several)
        for axes, cells in zip(panels, by_panel, strict=True)
    ]
    for axes, name, own in zip(panels, names, labels, strict=True):
        axes.set(title=name, xlabel="test accuracy (%)", xlim=(0, 118))
        axes.set_xticks(range(0, 101, 20))
        axes.spines.bottom.set_bounds(0, 100)
        if axes is not panels[0] and own == labels[0]:
            axes.set_yticklabels([])
    drawn = [done for cell in experiment.cells if (done := of_cell(rows, cell.name))]
    panels[-1].barh([], [], color=OURS, label="ours")
    if any(len(done) > 1 for done in drawn):
        panels[-1].errorbar([], [], xerr=[], color="black", label="deviation over seeds")
    if any("test_accuracy" in cell.published for cell in experiment.cells):
        panels[-1].plot([], [], **PUBLISHED, label="published (in brackets)")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(_title(experiment))
    return figure


@styled
def lines(experiment: Experiment, rows: list[Result]) -> Figure:
    """Test accuracies by ``x`` as lines, what was published dashed, with open markers."""
    names = list(dict.fromkeys(cell.panel for cell in experiment.cells))
    figure, panels = grid(len(names), min(2, len(names)), 3.2)
    series = _names(list(experiment.cells), lambda cell: cell.series)
    for axes, name in zip(panels, names, strict=False):
        _lines(axes, [cell for cell in experiment.cells if cell.panel == name], series, rows)
        axes.set(xlabel=name or experiment.axis, ylabel="test accuracy (%)")
        axes.grid(visible=True)
    for i, name in enumerate(series):
        panels[0].plot([], [], **line(i), label=name)
    panels[0].plot([], [], color="black", **_OPEN, marker="o", label="published")
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle(_title(experiment))
    return figure


@styled
def curves(experiment: Experiment, rows: list[Result]) -> Figure:
    """Each layer's figures over its training: panels by data set and layer, a line a cell.

    Of several seeds, the first is drawn.
    """
    found: dict[tuple[str, str], list[tuple[Cell, list[Result]]]] = {}
    for cell in experiment.cells:
        own = [row for row in rows if row["cell"] == cell.name and not row["limit"]]
        for layer in dict.fromkeys(row["layer"] for row in own):
            first = [r for r in own if (r["layer"], r["seed"]) == (layer, own[0]["seed"])]
            found.setdefault((cell.panel, layer), []).append((cell, first))
    figure, panels = grid(len(CURVES) * len(found), len(CURVES), 1.75)
    series = _names(list(experiment.cells), lambda cell: cell.series)
    for i, ((panel, layer), cells) in enumerate(found.items()):
        for j, (column, title) in enumerate(CURVES.items()):
            axes = panels[len(CURVES) * i + j]
            for cell, own in cells:
                points = [(float(r["epoch"]), float(r[column])) for r in own if r[column]]
                style = line(series.index(cell.series)) | {"ms": 2.5}
                if points:
                    axes.plot(*zip(*points, strict=True), **style)
            axes.set(title=f"{panel}, layer {layer}", ylabel=title)
            axes.grid(visible=True)
            whole_epochs(axes, [1.0], "epoch of the layer")
            if column == "distinct_filters":
                axes.set_yscale("log", base=2)
                axes.yaxis.set_major_formatter("{x:g}")
            elif column == "norm_mean":
                axes.set_yscale("log")
    for i, name in enumerate(series):
        panels[0].plot([], [], **line(i), label=name)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


_OPEN = {"ls": "--", "mfc": "white", "lw": 0.9}


def _bars(axes: Axes, cells: list[Cell], rows: list[Result], axis: str, several: bool) -> list[str]:
    """Draw the bars of a panel from the top; returns their names. ``several`` series are names
    under a heading for each ``x``, of one the ``x`` themselves are."""
    y, places, names, headings = 0.0, [], [], []
    for x in _names(cells, lambda c: c.x):
        if x and several:
            headings.append((y, f"{axis}: {x}"))
            y += 1
        for cell in (c for c in cells if c.x == x):
            places.append(y)
            names.append(wrapped(cell.series if several else cell.x, 40))
            _bar(axes, y, numbers(of_cell(rows, cell.name), "test_accuracy"), cell)
            y += 1
    axes.set_yticks(places, names)
    for place, text in headings:
        axes.text(1, place + 0.1, text, va="center", style="italic")
    axes.set_ylim(y - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    if axis and not headings:
        axes.set_ylabel(axis)
    return names


def _bar(axes: Axes, y: float, values: list[float], cell: Cell) -> None:
    ends = [0.0]
    if values:
        mean, deviation = mean_and_deviation(values)
        several = len(values) > 1
        if mean == mean:
            axes.barh(y, mean, 0.75, color=OURS)
            if several:
                axes.errorbar(mean, y, xerr=deviation, color="black", lw=1)
            ends.append(mean + deviation)
        text = f"{mean:.1f}" if mean == mean else "diverged"
    else:
        text = "not run"
    if (published := cell.published.get("test_accuracy")) is not None:
        axes.plot(published, y, **PUBLISHED)
        ends.append(published + 1)
        text += f" ({published:g})"
    axes.text(max(ends) + 1, y, text, va="center", fontsize=7, color="black" if values else GREY)


def _lines(axes: Axes, cells: list[Cell], series: list[str], rows: list[Result]) -> None:
    places = _names(cells, lambda c: c.x)
    for name in _names(cells, lambda c: c.series):
        style = line(series.index(name))
        own = [cell for cell in cells if cell.series == name]
        found = [(places.index(c.x), numbers(of_cell(rows, c.name), "test_accuracy")) for c in own]
        points = [(x, *mean_and_deviation(values)) for x, values in found if values]
        if points:
            x, mean, deviation = zip(*points, strict=True)
            axes.errorbar(x, mean, [d or float("nan") for d in deviation], **style)
        published = [
            (places.index(c.x), c.published["test_accuracy"])
            for c in own
            if "test_accuracy" in c.published
        ]
        if published:
            axes.plot(*zip(*published, strict=True), **style | _OPEN)
    axes.set_xticks(range(len(places)), places)


def _title(experiment: Experiment) -> str:
    source = "" if experiment.source == "this project" else f" ({experiment.source})"
    return wrapped(f"{experiment.title}{source}", 110)


def _names(cells: list[Cell], name: Callable[[Cell], str]) -> list[str]:
    return list(dict.fromkeys(map(name, cells)))
