"""Curves of a run: the classifier by epoch, the Hebbian layers while they learn, symmetry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from softhebb_fast.pictures.style import GREY, grid, legend, line, styled, whole_epochs
from softhebb_fast.training.metrics import MetricsRow, classifier_rows

HEIGHT = 2.3
LAYERS = {  # column: what the axis counts, whether it is logarithmic
    "norm_mean": ("mean norm of the filters", True),
    "winner_entropy": ("entropy of the wins (bits)", False),
    "competition_entropy": ("entropy of the competition (bits)", False),
    "winner_probability": ("mean softmax of the winner", False),
    "distinct_filters": ("distinct filters", True),
}
WORTH_A_LOG = 30  # times the least value that the largest must be
MOST_WEIGHTS = 8  # lines with a name in a panel of all weights
Panel = Callable[[Axes], None]


@styled
def curves(rows: list[MetricsRow]) -> Figure:
    """Accuracy and loss of the classifier, and the figures of each Hebbian layer, by epoch.

    A panel for each figure that was recorded. Epoch 0 is before learning. Gaps (NaN, or not
    recorded) are left out. Raises ValueError if there is nothing to draw.
    """
    if not rows:
        raise ValueError("rows must hold recorded figures; got none")
    panels = _classifier(classifier_rows(rows), "epoch of the classifier")
    layered = [row for row in rows if "layer" in row]
    known = {column for row in layered for column in row}
    if "competition_entropy" in known:  # which says more of the same
        known.discard("winner_probability")
    panels += [
        lambda axes, column=column: _layers(axes, layered, column)
        for column in LAYERS
        if column in known
    ]
    return _drawn(panels)


@styled
def learning(rows: list[MetricsRow], symmetry: list[dict[str, Any]]) -> Figure:
    """Accuracy and loss of an ordinary network by epoch; by step the deviation of each weight's
    channels, if it was recorded.

    Raises ValueError if there is nothing to draw.
    """
    if not rows:
        raise ValueError("rows must hold recorded figures; got none")
    panels = _classifier(rows, "epoch")
    if symmetry:
        panels.append(lambda axes: _deviation(axes, symmetry))
    return _drawn(panels)


def _drawn(panels: list[Panel]) -> Figure:
    figure, axes = grid(len(panels), 3, HEIGHT)
    for one, panel in zip(axes, panels, strict=False):
        panel(one)
        one.grid(visible=True)
        legend(one)
    return figure


def _classifier(rows: list[MetricsRow], epochs: str) -> list[Panel]:
    def panel(axes: Axes, what: str, title: str) -> None:
        for i, name in enumerate(("train", "test")):
            points = [(r["epoch"], r[f"{name}_{what}"]) for r in rows if f"{name}_{what}" in r]
            if points:
                last = f"{points[-1][1]:.2f} %" if what == "accuracy" else f"{points[-1][1]:.3g}"
                axes.plot(*zip(*points, strict=True), **line(i), label=f"{name}, at last {last}")
        axes.set_ylabel(title)
        whole_epochs(axes, (r["epoch"] for r in rows), epochs)
        if what == "loss" and _positive(axes):
            axes.set_yscale("log")

    return [
        lambda axes, what=what, title=title: panel(axes, what, title)
        for what, title in (("accuracy", "accuracy (%)"), ("loss", "loss (nats an image)"))
        if any(f"{name}_{what}" in row for row in rows for name in ("train", "test"))
    ]


def _layers(axes: Axes, rows: list[MetricsRow], column: str) -> None:
    title, logarithmic = LAYERS[column]
    for i, layer in enumerate(sorted({row["layer"] for row in rows})):
        own = sorted(
            (row["epoch"], row[column]) for row in rows if row["layer"] == layer and column in row
        )
        if own:
            axes.plot(*zip(*own, strict=True), **line(i), label=f"layer {layer:g}")
    if logarithmic and _positive(axes):
        axes.set_yscale("log")
    if column == "norm_mean":
        axes.axhline(1, color=GREY, lw=0.8, ls=":", label="norm 1")
    axes.set_ylabel(title)
    whole_epochs(axes, (row["epoch"] for row in rows), "epoch of the layer")


def _deviation(axes: Axes, symmetry: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(row["weight"] for row in symmetry))
    every = max(1, -(-len(names) // MOST_WEIGHTS))
    named = names[::every]
    for name in sorted(names, key=named.__contains__):  # those with a name above the others
        points = [(r["step"], r["deviation"]) for r in symmetry if r["weight"] == name]
        style = line(named.index(name)) if name in named else {"color": "0.8", "lw": 0.8}
        axes.plot(*zip(*points, strict=True), **style, label=name if name in named else None)
    if len(named) < len(names):
        axes.plot([], [], color="0.8", lw=0.8, label=f"{len(names) - len(named)} others")
    axes.set_xscale("symlog", linthresh=1)
    symlog(axes, [row["deviation"] for row in symmetry])
    axes.set(xlabel="step", ylabel="largest deviation between channels")


def symlog(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis y on which an exact 0 stands at the bottom, with few ticks."""
    found = [abs(y) for y in values if y and math.isfinite(y)]
    if not found or max(found) < WORTH_A_LOG * min(found):
        return
    low, high = math.log10(min(found)), math.log10(max(found))
    # The stretch from 0 to the least value is as wide as a tenth of the decades above it.
    axes.set_yscale("symlog", linthresh=min(found), linscale=max(0.5, (high - low) / 10))
    decades = range(math.ceil(low), math.floor(high) + 1)
    axes.set_yticks([0.0, *(10.0**d for d in decades[:: -(-len(decades) // 5)])])
    axes.yaxis.set_minor_locator(NullLocator())


def _positive(axes: Axes) -> bool:
    """Whether something is drawn, all of it above 0 or missing."""
    values = [y for drawn in axes.get_lines() for y in drawn.get_ydata()]
    return bool(values) and all(y != y or y > 0 for y in values)
