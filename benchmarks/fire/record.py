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


def keep(
    path: Path, columns: Sequence[str], rows: list[dict[str, Any]], same: Sequence[str] = ("seed",)
) -> None:
    """Write ``rows`` beside those of other seeds; of others in what ``same`` names."""
    own = {tuple(str(row[key]) for key in same) for row in rows}
    others = [row for row in read(path) if tuple(row[key] for key in same) not in own]
    write_csv(path, columns, [*others, *rows])
