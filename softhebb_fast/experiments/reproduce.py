"""Making the runs of an experiment, each once, and keeping their results."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softhebb_fast.data.sets import DATA_SETS
from softhebb_fast.experiments import EXPERIMENTS, measure, results
from softhebb_fast.experiments.cell import Cell, Experiment, differences
from softhebb_fast.files import writable_folder
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import CONFIG_FILE, read_config
from softhebb_fast.training.trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """What became of one cell with one seed: its row of results, or why there is none."""

    cell: Cell
    seed: int
    row: dict[str, Any] | None = None
    problem: str = ""


def reproduce(
    cells: list[Cell],
    seeds: Iterable[int],
    out: Path,
    results_folder: Path = results.FOLDER,
    *,
    root: str | Path | None = None,
    reporter: Reporter | None = None,
    run: Callable[[Trainer], Any] = Trainer.run,
    **changes: Any,
) -> Iterator[Outcome]:
    """Make the runs of `run_folder` one after the other, a seed at a time.

    A run that was stopped goes on, bit by bit; a finished one is not made again; one that another
    process is at is left to it. After each run its row stands in the results of every experiment
    that has the cell. A run whose data is missing gets a row that says so.

    Args:
        run: brings a trainer to its end.
        changes: fields of `RunConfig` for all cells, such as ``limit`` or ``backend``.

    Raises ValueError for a folder that holds another run, and as `Trainer` does.
    """
    for seed in seeds:
        for cell in {cell.name: cell for cell in cells}.values():
            config = cell.config(seed, **changes)
            folder = run_folder(out, cell, config)
            with claimed(folder) as mine:
                if not mine:
                    yield Outcome(cell, seed, problem="another process is at it")
                    continue
                try:
                    bring_to_end(folder, config, root, reporter, run)
                except FileNotFoundError as error:
                    note = f"{DATA_SETS[config.dataset].folder} is not in the data folder"
                    record(cell, {**measure.describe(config), "note": note}, results_folder)
                    yield Outcome(cell, seed, problem=str(error))
                    continue
                yield Outcome(cell, seed, keep(cell, folder, results_folder, root))


def run_folder(out: Path, cell: Cell, config: RunConfig) -> Path:
    """Where the run of a cell stands: ``<cell>-<seed>``, runs on fewer images apart."""
    trial = "" if config.limit is None else f"-limit{config.limit}"
    return out / f"{cell.name}-{config.seed}{trial}"


def adopt(
    cell: Cell,
    folder: Path,
    results_folder: Path,
    root: str | Path | None = None,
    made_by: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Take the finished run in ``folder`` for one of ``cell``'s; returns its row of results.

    ``made_by`` may give what the run has not kept itself: commit, torch, threads.

    Raises ValueError if it is not finished, or of another configuration, with the differences.
    """
    config, _ = read_config(folder)
    _check_same(folder, config, cell.config(config.seed))
    return _measured(cell, folder, results_folder, root, made_by)


def bring_to_end(
    folder: Path,
    config: RunConfig,
    root: str | Path | None = None,
    reporter: Reporter | None = None,
    run: Callable[[Trainer], Any] = Trainer.run,
) -> None:
    """Make the run of ``config`` in ``folder``, or what is left of it."""
    options = {"reporter": reporter} | ({} if root is None else {"root": root})
    if not (folder / CONFIG_FILE).exists():
        run(Trainer(config, folder, **options))
        return
    _check_same(folder, read_config(folder)[0], config)
    if not measure.is_finished(folder):
        run(Trainer.resume(folder, **options))


def keep(
    cell: Cell, folder: Path, results_folder: Path, root: str | Path | None = None
) -> dict[str, Any]:
    """The row of the finished run in ``folder``, measured and written unless it stands already."""
    seed, stamp = str(read_config(folder)[0].seed), measure.finished_at(folder)
    experiments = _with_cell(cell)
    found = [
        row
        for experiment in experiments
        for row in results.read(results.path(experiment.name, results_folder))
        if (row["cell"], row["seed"], row["finished"]) == (cell.name, seed, stamp)
    ]
    if found and len(found) == len(experiments):
        return found[0]
    return _measured(cell, folder, results_folder, root)


def _measured(
    cell: Cell,
    folder: Path,
    results_folder: Path,
    root: str | Path | None,
    made_by: dict[str, Any] | None = None,
) -> dict[str, Any]:
    row = measure.measure(folder, root) | (made_by or {})
    record(cell, row, results_folder)
    for experiment in _with_cell(cell):
        if experiment.figure == "curves":
            rows = [{"cell": cell.name, **row} for row in measure.curves(folder, root)]
            path = results.path(f"{experiment.name}_curves", results_folder)
            results.put(path, rows, _order(experiment), results.CURVE_COLUMNS)
    return row


def record(cell: Cell, row: dict[str, Any], results_folder: Path) -> None:
    """Write a row to the results of every experiment that has the cell."""
    for experiment in _with_cell(cell):
        path = results.path(experiment.name, results_folder)
        full = {"experiment": experiment.name, "cell": cell.name, **row}
        results.put(path, [full], _order(experiment))


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process is the only one at ``folder``, and keep others off meanwhile.

    The folder is made, and taken away if it stays empty.
    """
    descriptor = os.open(writable_folder(folder), os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()


def _with_cell(cell: Cell) -> list[Experiment]:
    return [e for e in EXPERIMENTS.values() if cell.name in _order(e)]


def _order(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys(cell.name for cell in experiment.cells))


def _check_same(folder: Path, made: RunConfig, wanted: RunConfig) -> None:
    if different := differences(made, wanted):
        raise ValueError(
            f"{str(folder)!r} holds another run ({'; '.join(different)}); name another folder"
        )
