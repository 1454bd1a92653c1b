"""Rows of CSV files as tables of Markdown."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def grouped(
    rows: Iterable[dict[str, str]], *names: str
) -> Iterator[tuple[tuple[str, ...], list[dict[str, str]]]]:
    """Rows that agree in these columns, in the order in which they come first."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from found.items()


def number(row: dict[str, str], name: str) -> float:
    """A cell as a number; 0 if it is empty or the table has no such column."""
    return float(row.get(name) or 0)


def total(rows: Iterable[dict[str, str]], name: str) -> float:
    """Their sum, the same in every Python: ``sum`` itself rounds otherwise since 3.12."""
    return math.fsum(number(row, name) for row in rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
