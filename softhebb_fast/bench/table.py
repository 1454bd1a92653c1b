"""Rows as text: a table a case, and what changed since an older run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from softhebb_fast.bench.rows import Row

PRODUCTS = "products"
HEAD = ("provider", "median", "20 %", "80 %", "published /", "GFLOP/s", "products /", "memory")


@dataclass(frozen=True)
class Comparison:
    """A row, and its median over that of an older row of the same key.

    ``worse`` and ``better``: the ranges from the 20 % to the 80 % quantile do not overlap.
    """

    row: Row
    ratio: float
    worse: bool
    better: bool


def table(rows: Sequence[Row]) -> str:
    """All rows, case by case.

    ``published /`` and ``products /`` are how many times the row's provider goes into the published
    one and into the bare matrix products, which a method with fewer products may beat.
    """
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        own = [row for row in rows if row.case == case]
        lines += [_title(own[0]), *_aligned([HEAD, *(_cells(row, own) for row in own)]), ""]
    return "\n".join(lines)


def compare(new: Iterable[Row], old: Iterable[Row]) -> list[Comparison]:
    """How each new row compares with the old one of the same key, where there is one."""
    before = {row.key: row for row in old}
    return [
        Comparison(row, row.median / was.median, row.q20 > was.q80, row.q80 < was.q20)
        for row in new
        if (was := before.get(row.key)) is not None
    ]


def describe(changes: Sequence[Comparison]) -> str:
    """A line a change: the ratio new / old, marked where the quantiles say that it is no noise."""
    marks = {(True, False): "slower", (False, True): "faster", (False, False): "within noise"}
    cells = [
        (c.row.case, c.row.provider, f"{c.ratio:.3f}", marks[c.worse, c.better]) for c in changes
    ]
    return "\n".join(_aligned([("case", "provider", "new / old", ""), *cells], left=2))


def seconds(value: float) -> str:
    """With three digits, in the unit that suits: ``"73.4 ms"``."""
    if value >= 999.5:
        return f"{value:.0f} s"
    units = (("µs", 1e-6), ("ms", 1e-3), ("s", 1.0))
    unit, scale = next((unit, scale) for unit, scale in units if value < 999.5 * scale)
    return f"{value / scale:#.3g}".rstrip(".") + f" {unit}"


def ratio(of: str, row: Row, own: Sequence[Row]) -> float | None:
    """The median of the provider ``of`` on the same case, over the row's."""
    return next((other.median / row.median for other in own if other.provider == of), None)


def _title(row: Row) -> str:
    text = f"{row.case}: {row.device}, {row.threads} threads"
    if row.flops:
        text += f", {row.flops / 1e9:.3g} GFLOP a call"
    return text if row.calls == 1 else f"{text}; extrapolated to {row.calls} calls"


def _cells(row: Row, own: Sequence[Row]) -> tuple[str, ...]:
    published, products = (ratio(of, row, own) for of in ("published", PRODUCTS))
    return (
        row.provider,
        *(seconds(t) for t in (row.median, row.q20, row.q80)),
        "" if published is None else f"{published:.2f}x",
        f"{row.flops * row.calls / row.median / 1e9:.1f}" if row.flops else "",
        "" if products is None else f"{products:.2f}x",
        "" if row.bytes is None else f"{row.bytes / 2**20:.0f} MiB",
    )


def _aligned(cells: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Columns of equal width, the first ``left`` flush left, the others flush right."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
