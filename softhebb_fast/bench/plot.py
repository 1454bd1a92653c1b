"""Rows as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from softhebb_fast.bench.providers import PROVIDERS
from softhebb_fast.bench.rows import Row
from softhebb_fast.pictures.style import GREY, WIDTH, line, styled, wrapped

_STYLES = {name: line(i) for i, name in enumerate(PROVIDERS)}


def style(provider: str) -> dict[str, Any]:
    """Colour, dashes and marker of a provider, the same in every picture."""
    return _STYLES.get(provider, {"color": GREY, "marker": "."})


@styled
def medians(rows: Sequence[Row]) -> Figure:
    """The medians of every case as points, with their quantiles, on a logarithmic axis.

    Raises ValueError if there is nothing to draw.
    """
    if not rows:
        raise ValueError("rows must hold results; got none")
    cases = list(dict.fromkeys(row.case for row in rows))
    figure = Figure(figsize=(WIDTH, 1 + 0.12 * len(rows) + 0.15 * len(cases)), layout="constrained")
    axis, place, ticks, seen = figure.subplots(), 0.0, [], set()
    for case in cases:
        own = [row for row in rows if row.case == case]
        ticks.append((place + (len(own) - 1) / 2, case))
        for row in own:
            error = [[1e3 * (row.median - row.q20)], [1e3 * (row.q80 - row.median)]]
            axis.errorbar(
                1e3 * row.median,
                place,
                xerr=error,
                **style(row.provider) | {"ls": "none"},
                label=None if row.provider in seen else row.provider,
            )
            seen.add(row.provider)
            place += 1
        place += 1
    axis.set_xscale("log")
    axis.set_ymargin(0.02)
    axis.set_yticks([at for at, _ in ticks], [case for _, case in ticks])
    axis.invert_yaxis()
    axis.set(xlabel="ms (median; 20 % and 80 % quantiles)", title=wrapped(_title(rows[0]), 90))
    axis.grid(axis="x")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _title(row: Row) -> str:
    return f"{row.machine}; {row.device}, {row.threads} threads; {row.versions}; {row.commit}"
