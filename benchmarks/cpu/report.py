"""The CSV of a script here: its rows, each with what they were made with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from softhebb_fast.bench import machine
from softhebb_fast.files import write_csv


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence], threads: int) -> None:
    """Write ``rows``, values in the order of ``columns``, numbers to four digits."""
    about = {"threads": threads, **machine.facts("cpu")}
    filled = (dict(zip(columns, map(_text, row), strict=True)) | about for row in rows)
    write_csv(path, (*columns, *about), filled)


def _text(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
