"""The committed tables of what was tried: one row a file or moment and seed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softhebb_fast.files import write_csv

FOLDER = Path(__file__).parents[1] / "results"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keep(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    """Write ``rows`` beside those of other seeds."""
    seeds = {str(row["seed"]) for row in rows}
    others = [row for row in read(path) if row["seed"] not in seeds]
    write_csv(path, columns, [*others, *rows])
