"""How the cost grows: the rows of the family ``scaling/QUANTITY/VALUE``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from softhebb_fast.bench.plot import style
from softhebb_fast.bench.providers import PROVIDERS
from softhebb_fast.bench.rows import Row
from softhebb_fast.pictures.style import grid, styled

FAMILY = "scaling"
QUANTITIES = {
    "batch": "batch",
    "width": "neurons K",
    "size": "rows (and columns) of the map",
    "depth": "layers",
}
Points = list[tuple[int, float]]


def curves(rows: Sequence[Row]) -> dict[str, dict[str, Points]]:
    """By quantity and provider, the values in ascending order with their seconds."""
    found: dict[str, dict[str, Points]] = {}
    for row in rows:
        family, *rest = row.case.split("/")
        if family == FAMILY:
            quantity, value = rest
            points = found.setdefault(quantity, {}).setdefault(row.provider, [])
            points.append((int(value), row.median))
    for by_provider in found.values():
        for points in by_provider.values():
            points.sort()
    return found


def slope(points: Points) -> float:
    """Of the line that fits best on logarithmic axes: 1 for a cost in proportion. Needs two."""
    x, y = zip(*((math.log(a), math.log(b)) for a, b in points), strict=True)
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def fastest(by_provider: dict[str, Points]) -> list[tuple[int, str]]:
    """Who is fastest from which value on, partial ones left out: one entry a change."""
    times: dict[int, dict[str, float]] = {}
    for provider, points in by_provider.items():
        if provider not in PROVIDERS or not PROVIDERS[provider].partial:
            for value, seconds in points:
                times.setdefault(value, {})[provider] = seconds
    found: list[tuple[int, str]] = []
    for value in sorted(times):
        best = min(times[value], key=times[value].__getitem__)
        if not found or found[-1][1] != best:
            found.append((value, best))
    return found


@styled
def plot(rows: Sequence[Row]) -> Figure:
    """A panel a quantity, logarithmic axes, the slopes in the legends.

    Raises ValueError if there is nothing to draw.
    """
    found = curves(rows)
    if not found:
        raise ValueError("rows must hold cases of the family 'scaling/'; got none")
    figure, panels = grid(len(found), min(2, len(found)), 2.8)
    for axis, (quantity, by_provider) in zip(panels, found.items(), strict=False):
        for provider, points in by_provider.items():
            label = provider if len(points) < 2 else f"{provider} {slope(points):.2f}"
            values, seconds = zip(*points, strict=True)
            milliseconds = [1e3 * s for s in seconds]
            axis.plot(values, milliseconds, **style(provider), label=label)
        name = QUANTITIES.get(quantity, quantity)
        axis.set(xscale="log", yscale="log", xlabel=name, ylabel="ms a step")
        _plain_ticks(axis, {value for points in by_provider.values() for value, _ in points})
        axis.grid(visible=True)
        axis.legend(title="slope", title_fontsize=7)
    return figure


def _plain_ticks(axis: Axes, values: set[int]) -> None:
    axis.set_xticks(sorted(values), [str(value) for value in sorted(values)])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def table(rows: Sequence[Row]) -> str:
    """Markdown: the slope of every provider, and from which value on it is the fastest."""
    found = curves(rows)
    providers = list(dict.fromkeys(p for by_provider in found.values() for p in by_provider))
    lines = ["| slope in | " + " | ".join(providers) + " | fastest |"]
    lines.append("|---" * (len(providers) + 2) + "|")
    for quantity, by_provider in found.items():
        cells = [
            f"{slope(by_provider[p]):.2f}" if len(by_provider.get(p, ())) > 1 else ""
            for p in providers
        ]
        from_on = ", ".join(f"`{name}` from {value}" for value, name in fastest(by_provider))
        lines.append(
            f"| {QUANTITIES.get(quantity, quantity)} | " + " | ".join(cells) + f" | {from_on} |"
        )
    return "\n".join(lines)
