"""A result as a row, and rows as CSV: the one schema of all benchmarks."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from softhebb_fast.files import write_csv

KEY = ("case", "provider", "device", "precision", "threads")


@dataclass(frozen=True)
class Row:
    """One provider on one case.

    Attributes:
        case, provider, device, precision, threads: what was timed, and where.
        median, q20, q80: seconds, with the 20 % and 80 % quantiles of the samples.
        samples: how many samples there are; short calls are repeated within one.
        calls: how many calls the seconds stand for: they were measured for one and multiplied.
        bytes: peak memory beyond that of the idle process, inputs and weights included; None if
            the system does not tell.
        flops: of the matrix products in one call.
        commit, versions, machine, timestamp: of this package, of Python and torch, the CPU or GPU
            and what it can do, UTC.
    """

    case: str
    provider: str
    device: str
    precision: str
    threads: int
    median: float
    q20: float
    q80: float
    samples: int
    calls: int
    bytes: int | None
    flops: int
    commit: str
    versions: str
    machine: str
    timestamp: str

    @property
    def key(self) -> tuple[str | int, ...]:
        return tuple(getattr(self, name) for name in KEY)

    @property
    def network(self) -> str:
        return self.case.split("/")[0]


FIELDS = tuple(field.name for field in fields(Row))
_INTEGERS = ("threads", "samples", "calls", "flops")


def read(path: str | Path) -> list[Row]:
    """The rows of a CSV file. Raises ValueError if it has another schema, OSError as ``open``."""
    path = Path(path)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            raise ValueError(f"{path} must have the columns {', '.join(FIELDS)}")
        return [_row(values) for values in reader]


def write(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows atomically."""
    path = Path(path)
    found = (
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
        for row in rows
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, FIELDS, found)


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """The old rows, those of the same key replaced by new ones, and what is new after them."""
    by_key = {row.key: row for row in old}
    by_key.update((row.key, row) for row in new)
    return list(by_key.values())


def _row(values: dict[str, str]) -> Row:
    found: dict = dict(values)
    found |= {name: int(values[name]) for name in _INTEGERS}
    found |= {name: float(values[name]) for name in ("median", "q20", "q80")}
    found["bytes"] = int(values["bytes"]) if values["bytes"] else None
    return Row(**found)
