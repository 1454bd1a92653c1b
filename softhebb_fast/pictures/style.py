"""What all pictures share: the width of a page, letters that can be read there, safe colours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from contextlib import ContextDecorator
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH = 7.5  # inches, that of a page
DPI = 144
# Okabe and Ito 2008, for colour-blind readers too. Their yellow is left out: too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
OURS, GREY = COLOURS[0], "0.55"
PUBLISHED: dict[str, Any] = {"marker": "o", "mfc": "white", "mec": "black", "ls": "none", "ms": 5}

styled: ContextDecorator = rc_context(
    {
        **{"font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "legend.fontsize": 7},
        **{"figure.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False},
        **{"lines.linewidth": 1.3, "lines.markersize": 3.5, "legend.frameon": False},
        **{"errorbar.capsize": 2, "axes.axisbelow": True, "grid.alpha": 0.3},
    }
)


def line(i: int) -> dict[str, Any]:
    """Colour, dashes and marker of the ``i``-th line: 28 that differ."""
    turn = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "ls": DASHES[turn % len(DASHES)],
        "marker": MARKERS[(i + turn) % len(MARKERS)],
    }


def grid(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a page with ``count`` panels of that height, at least one."""
    count = max(count, 1)
    lines = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * lines + 0.3), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for one in axes[count:]:
        one.set_axis_off()
    return figure, axes


def wrapped(text: str, letters: int) -> str:
    """``text`` on lines of at most so many letters."""
    return "\n".join(textwrap.wrap(text, letters))


def legend(axes: Axes, **options: Any) -> None:
    """A legend, if there is anything to tell apart."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def whole_epochs(axes: Axes, epochs: Iterable[float], name: str = "epoch") -> None:
    """An axis of epochs, with ticks at whole numbers where it is long enough."""
    if max(epochs, default=0) >= 2:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel(name)
