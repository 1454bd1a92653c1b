"""Rows as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.figure import Figure

from softhebb_fast.bench.providers import PROVIDERS
from softhebb_fast.bench.rows import Row

_PALETTE = colormaps["tab20"].colors  # ten strong colours at even places, their tints between
COLOURS = dict(zip(PROVIDERS, (*_PALETTE[::2], *_PALETTE[1::2]), strict=False))


def bars(rows: Sequence[Row]) -> Figure:
    """The medians of every case, with their quantiles, on a logarithmic axis.

    Raises ValueError if there is nothing to draw.
    """
    if not rows:
        raise ValueError("rows must hold results; got none")
    cases = list(dict.fromkeys(row.case for row in rows))
    figure = Figure(figsize=(8, 1 + 0.19 * len(rows) + 0.22 * len(cases)), layout="constrained")
    axis, place, ticks, seen = figure.subplots(), 0.0, [], set()
    for case in cases:
        own = [row for row in rows if row.case == case]
        ticks.append((place + (len(own) - 1) / 2, case))
        for row in own:
            error = [[1e3 * (row.median - row.q20)], [1e3 * (row.q80 - row.median)]]
            axis.barh(
                place,
                1e3 * row.median,
                height=0.9,
                xerr=error,
                color=COLOURS.get(row.provider, "grey"),
                label=None if row.provider in seen else row.provider,
            )
            seen.add(row.provider)
            place += 1
        place += 1
    axis.set_xscale("log")
    axis.set_yticks([at for at, _ in ticks], [case for _, case in ticks])
    axis.invert_yaxis()
    axis.set(xlabel="ms (median; 20 % and 80 % quantiles)", title=_title(rows[0]))
    axis.title.set_fontsize(9)
    axis.grid(axis="x", alpha=0.3)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _title(row: Row) -> str:
    return f"{row.machine}; {row.device}, {row.threads} threads; {row.versions}; {row.commit}"
