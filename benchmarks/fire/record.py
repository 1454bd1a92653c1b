"""The committed tables of what was tried: one row a file or moment and seed."""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softhebb_fast.files import write_csv
from softhebb_fast.training.provenance import provenance

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


def made_by(**own: Any) -> dict[str, Any]:
    """The columns that tell what made a row: commit, torch, and ``own``."""
    found = provenance()
    return {"commit": found["commit"], "torch": found["torch"], **own}


def options(what: str | None, times: int, of: str, kept: str) -> argparse.ArgumentParser:
    """A parser of how often something is tried, of its seed, and where the rows are to go.

    ``what`` is the docstring of the module that tries, and ``kept`` what the rows say.
    """
    parser = argparse.ArgumentParser(description=(what or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=times, help=of)
    parser.add_argument("--seed", type=int, default=0, help="rows of others stay in the CSV")
    parser.add_argument("--out", type=Path, help=f"CSV of {kept}")
    return parser


def counted(row: dict[str, Any], keys: Sequence[str]) -> str:
    """The counts of a row that are not 0, in words."""
    return ", ".join(f"{row[key]} {key}" for key in keys if row.get(key))


def summed(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> str:
    """The counts of all rows together, in words."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update({key: row.get(key, 0) for key in keys})
    return ", ".join(f"{total[key]} {key}" for key in keys)
