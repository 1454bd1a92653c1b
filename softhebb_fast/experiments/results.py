"""Results on disk: one CSV an experiment, one row a seed of a cell, whole or absent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from softhebb_fast import sealed
from softhebb_fast.files import WAIT, claim, writable_folder
from softhebb_fast.training import symmetry
from softhebb_fast.training.metrics import LAYER_FIGURES

FOLDER = Path("results")
DIVERGED = "diverged: "  # how the note of a run begins that came to infinity or NaN
_CELL = ("experiment", "cell", "dataset")
_RUN = ("seed", "protocol", "limit", "backend", "precision", "threads")
_FIGURES = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
_MADE = ("minutes", "commit", "torch", "finished", "note")
COLUMNS = (
    *_CELL,
    *("preset", "init", "tie_rule", "mode"),
    *_RUN,
    *_FIGURES,
    *("logged_train_accuracy", "logged_train_loss", "logged_test_loss"),
    *LAYER_FIGURES,
    *("initial_nonzeros", "initial_distinct"),
    *_MADE,
)
BACKPROP_COLUMNS = (
    *_CELL,
    *("network", "options", "init", "breakers", "images"),
    *_RUN,
    *_FIGURES,
    *("first_epoch", "change_ranks"),
    *_MADE,
)
KEY = ("cell", "seed", "limit")
CURVE_COLUMNS = (
    "cell",
    "seed",
    "limit",
    "layer",
    "epoch",
    *LAYER_FIGURES,
)
EPOCH_COLUMNS = (
    "cell",
    "seed",
    "limit",
    "epoch",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
)
SYMMETRY_COLUMNS = ("cell", "seed", "limit", *symmetry.COLUMNS)
CHECK_COLUMNS = ("check", "value", "commit", "torch")

Result = dict[str, str]


def path(name: str, folder: str | Path = FOLDER) -> Path:
    """The CSV of the experiment of that name."""
    folder = Path(folder)
    return folder / f"{name}.csv"


def read(path: str | Path) -> list[Result]:
    """The rows of a CSV, every value as text; none if there is no file.

    Raises ValueError, naming the file, for a row that is not what was written.
    """
    path = Path(path)
    if not path.is_file():
        return []
    try:
        return sealed.read_csv(path)
    except sealed.Damaged as error:
        raise ValueError(
            f"the results {path} are damaged: {error}. Put a copy of the file there, or take the "
            "row out"
        ) from error


def write(path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows atomically, each with a digest; what a row lacks stays empty."""
    found = ({name: text(row.get(name)) for name in columns} for row in rows)
    sealed.write_csv(path, columns, found)


def put(
    path: Path, rows: list[dict[str, Any]], order: list[str], columns: tuple[str, ...] = COLUMNS
) -> None:
    """Write ``rows`` into a CSV, in place of those of the same cell, seed and limit.

    Rows stand in the order of the cells named in ``order``, then by seed. Several processes may
    write to one file.

    Raises ValueError for a folder that cannot be written, or that another process keeps busy, and
    as ``read`` does.
    """
    writable_folder(path.parent, "results")
    new = [{c: text(row.get(c)) for c in columns} for row in rows]
    replaced = {tuple(row[k] for k in KEY) for row in new}
    release = claim(path.parent, WAIT)
    try:
        kept = [row for row in read(path) if tuple(row[k] for k in KEY) not in replaced]
        places = {cell: place for place, cell in enumerate(dict.fromkeys(order))}
        every = sorted(
            [*kept, *new],
            key=lambda row: (places.get(row["cell"], len(places)), row["limit"], int(row["seed"])),
        )
        write(path, columns, every)
    finally:
        release()


def of_cell(rows: list[Result], cell: str) -> list[Result]:
    """The finished rows of a cell on all images."""
    return [r for r in rows if r["cell"] == cell and not r["limit"] and r["test_accuracy"]]


def diverged(rows: list[Result], cell: str) -> str:
    """What became infinite or NaN in a run of a cell, empty where none diverged."""
    notes = [row["note"] for row in rows if row["cell"] == cell and not row["limit"]]
    return next((note for note in notes if note.startswith(DIVERGED)), "")


def numbers(rows: list[Result], column: str) -> list[float]:
    """A column's values, where there are any."""
    return [float(row[column]) for row in rows if row.get(column)]


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Mean, and the deviation of the population, as published; NaN where a run diverged."""
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan
    return statistics.fmean(values), statistics.pstdev(values)


def text(value: Any) -> str:
    """A value as it stands in a CSV."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
