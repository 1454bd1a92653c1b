"""Making the runs of an experiment, each once, and keeping their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softhebb_fast.data.sets import DATA_SETS
from softhebb_fast.data.sources import DataMissing
from softhebb_fast.experiments import EXPERIMENTS, measure, measure_backprop, results
from softhebb_fast.experiments.cell import Cell, Experiment, differences
from softhebb_fast.files import InUse, claim, writable_folder
from softhebb_fast.training import runs
from softhebb_fast.training.config import Config
from softhebb_fast.training.finite import NotFinite
from softhebb_fast.training.loop import Loop
from softhebb_fast.training.provenance import provenance
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import CONFIG_FILE, read_config
from softhebb_fast.training.together import same_but_for_seed
from softhebb_fast.training.trainer import Trainer

MEASURES = {"softhebb": measure, "backprop": measure_backprop}


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
    results_folder: Path | None = None,
    *,
    root: str | Path | None = None,
    reporter: Reporter | None = None,
    run: Callable[[Loop], Any] = Loop.run,
    together: Callable[[list[Trainer]], Any] | None = None,
    **changes: Any,
) -> Iterator[Outcome]:
    """Make the runs of `run_folder` one after the other, a seed at a time.

    A run that was stopped goes on, bit by bit; a finished one is not made again; one that another
    process is at is left to it. After each run its row stands in the results of every experiment
    that has the cell. A run whose data is missing, or that diverges, gets a row that says so, if it
    has none.

    Args:
        results_folder: that of the results; None takes `results_of`.
        run: brings a trainer to its end.
        together: brings the trainers of all seeds of a cell forward before the first is brought to
            its end, as `training.together.learn_together` does; None makes them one by one.
        changes: fields of the configuration for all cells, such as ``limit`` or ``device``.

    Cells that need a GPU are left out on another device than CUDA's.
    Raises ValueError for a folder that holds another run, and as `Loop` does.
    """
    results_folder = results_folder or results_of(out, changes.get("limit"))
    seeds, begun = list(dict.fromkeys(seeds)), set()
    for seed in seeds:
        for cell in {cell.name: cell for cell in cells}.values():
            config = cell.config(seed, **changes)
            if together is not None and cell.name not in begun and not _left_out(cell, config):
                begun.add(cell.name)
                configs = [cell.config(s, **changes) for s in seeds]
                bring_forward(cell, configs, out, root, reporter, together)
            folder = run_folder(out, cell, config)
            if _left_out(cell, config):
                note = f"needs a GPU, where it takes {cell.gpu}"
                yield Outcome(cell, seed, problem=note)
                continue
            with claimed(folder) as other:
                if other:
                    yield Outcome(cell, seed, problem=f"{other} is at it")
                    continue
                try:
                    bring_to_end(folder, config, root, reporter, run)
                except (DataMissing, NotFinite) as error:
                    if not _has_row(cell, config, results_folder):
                        described = MEASURES[config.kind].describe(config)
                        row = {**described, "note": _note(error, config)}
                        record(cell, row, results_folder)
                    yield Outcome(cell, seed, problem=str(error))
                    continue
                yield Outcome(cell, seed, keep(cell, folder, results_folder, root))


def results_of(out: Path, limit: int | None) -> Path:
    """Where the results of runs in ``out`` stand: trials on fewer images beside the runs alone."""
    return results.FOLDER if limit is None else out / "trials"


def run_folder(out: Path, cell: Cell, config: Config) -> Path:
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


def bring_forward(
    cell: Cell,
    configs: list[Config],
    out: Path,
    root: str | Path | None,
    reporter: Reporter | None,
    together: Callable[[list[Trainer]], Any],
) -> None:
    """Let ``together`` begin or go on with the runs of ``configs`` that are not finished, but for
    those that another process is at; with fewer than two, or without their data, do nothing."""
    with ExitStack() as claims:
        open_runs = []
        for config in configs:
            folder = run_folder(out, cell, config)
            if config.kind != "softhebb" or claims.enter_context(claimed(folder)):
                continue
            try:
                open_runs.append(open_run(folder, config, root, reporter))
            except DataMissing:
                return
        open_runs = [run for run in open_runs if run is not None]
        alike = [run for run in open_runs if same_but_for_seed(run, open_runs[0])]
        if len(alike) > 1:
            with suppress(NotFinite):  # the run that diverges says so when it goes on alone
                together(alike)


def _left_out(cell: Cell, config: Config) -> bool:
    return bool(cell.gpu) and not config.device.startswith("cuda")


def bring_to_end(
    folder: Path,
    config: Config,
    root: str | Path | None = None,
    reporter: Reporter | None = None,
    run: Callable[[Loop], Any] = Loop.run,
) -> None:
    """Make the run of ``config`` in ``folder``, or what is left of it."""
    trainer = open_run(folder, config, root, reporter)
    if trainer is not None:
        run(trainer)


def open_run(
    folder: Path, config: Config, root: str | Path | None, reporter: Reporter | None
) -> Loop | None:
    """The run of ``config`` in ``folder``, begun or resumed; None if it is finished."""
    options = {"reporter": reporter, "root": root}
    if not (folder / CONFIG_FILE).exists():
        return runs.begin(config, folder, **options)
    _check_same(folder, read_config(folder)[0], config)
    return None if measure.is_finished(folder) else runs.resume(folder, **options)


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
    kind = MEASURES[cell.kind.kind]
    row = kind.measure(folder, root) | (made_by or {})
    for experiment in _with_cell(cell):
        parts = []
        if experiment.figure == "curves":
            parts.append(("curves", results.CURVE_COLUMNS, kind.curves(folder, root)))
        elif experiment.figure == "learning" and kind is measure_backprop:
            parts.append(("curves", results.EPOCH_COLUMNS, kind.curves(folder, root)))
        if experiment.traces:
            found = measure_backprop.symmetry(folder)
            parts.append(("symmetry", results.SYMMETRY_COLUMNS, found))
        for part, columns, rows in parts:
            own = [{**{c: r.get(c) for c in columns}, "cell": cell.name} for r in rows]
            path = results.path(f"{experiment.name}_{part}", results_folder)
            results.put(path, own, _order(experiment), columns)
    record(cell, row, results_folder)  # last: a row says that all stands
    return row


def record(cell: Cell, row: dict[str, Any], results_folder: Path) -> None:
    """Write a row to the results of every experiment that has the cell."""
    for experiment in _with_cell(cell):
        path = results.path(experiment.name, results_folder)
        full = {"experiment": experiment.name, "cell": cell.name, **row}
        results.put(path, [full], _order(experiment), columns(experiment))


def columns(experiment: Experiment) -> tuple[str, ...]:
    """Those of its results: of the kinds of its runs."""
    kinds = {"softhebb": results.COLUMNS, "backprop": results.BACKPROP_COLUMNS}
    own = dict.fromkeys(cell.kind.kind for cell in experiment.cells)
    return tuple(dict.fromkeys(column for kind in own for column in kinds[kind]))


def check(experiment: Experiment, results_folder: Path = results.FOLDER) -> None:
    """Measure what takes no run, and write it to ``NAME_checks.csv``."""
    made_by = {name: provenance()[name] for name in ("commit", "torch")}
    rows = [
        {"check": name, "value": results.text(measured()), **made_by}
        for name, measured in experiment.checks.items()
    ]
    if rows:
        folder = writable_folder(results_folder, "results")
        path = results.path(f"{experiment.name}_checks", folder)
        results.write(path, results.CHECK_COLUMNS, rows)


@contextmanager
def claimed(folder: Path) -> Iterator[str]:
    """Which other process is at ``folder``, or "", and then keep others off meanwhile.

    The folder is made, and taken away if it stays empty.
    """
    try:
        release = claim(writable_folder(folder))
    except InUse as error:
        yield error.holder
        return
    try:
        yield ""
    finally:
        release()
        with suppress(OSError):
            folder.rmdir()


def _note(error: DataMissing | NotFinite, config: Config) -> str:
    if isinstance(error, DataMissing):
        return f"{DATA_SETS[config.dataset].folder} is not in the data folder"
    return f"{results.DIVERGED}{error}"


def _has_row(cell: Cell, config: Config, folder: Path) -> bool:
    """Whether a finished run of the cell with that seed and limit stands in any results."""
    key = (cell.name, str(config.seed), results.text(config.limit))
    return any(
        tuple(row[name] for name in results.KEY) == key and row["test_accuracy"]
        for experiment in _with_cell(cell)
        for row in results.read(results.path(experiment.name, folder))
    )


def _with_cell(cell: Cell) -> list[Experiment]:
    return [e for e in EXPERIMENTS.values() if cell.name in _order(e)]


def _order(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys(cell.name for cell in experiment.cells))


def _check_same(folder: Path, made: Config, wanted: Config) -> None:
    if different := differences(made, wanted):
        raise ValueError(
            f"{str(folder)!r} holds another run ({'; '.join(different)}); name another folder"
        )
