"""What is disturbed: commands that write files and go on where they were left."""

from __future__ import annotations

import csv
import io
import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image

from benchmarks.fire.targets import NETWORK, write_idx
from softhebb_fast import cli, sealed
from softhebb_fast.experiments import results
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.measurements import Measurements
from softhebb_fast.search.journal import Journal
from softhebb_fast.search.study import BEST, JOURNAL, TABLE
from softhebb_fast.training import checkpoint, metrics, runs
from softhebb_fast.training.run_folder import CONFIG_FILE, load_run

OFTEN = 0.0  # seconds between two checkpoints
# what two runs may differ in: when and how long, and by what commit, which others cannot read
TAKEN = ("seconds", "minutes", "finished", "commit", sealed.DIGEST)


@dataclass(frozen=True)
class Job:
    """Something that is begun in a folder, or gone on with.

    Attributes:
        name: the command.
        command: the arguments of ``softhebb-fast`` that begin it or go on with it, if it is one.
        half: the first file that is not whole, and how; "" if all are.
        ending: what it has come to, but for the time it took; two are equal or one is wrong.
        files: those that it writes, its pictures among them.
        own: what is done where there is no command.
    """

    name: str
    command: Callable[[Path], Sequence[str]] | None
    half: Callable[[Path], str]
    ending: Callable[[Path], str]
    files: tuple[str, ...]
    own: Callable[[Path], int] | None = None

    def do(self, folder: Path) -> int:
        """Bring it to its end; returns the exit status."""
        return cli.main(self.command(folder)) if self.own is None else self.own(folder)


def jobs(root: Path) -> dict[str, Job]:
    """All of them, on small data that are written to ``root``."""
    write_idx(root / "MNIST" / "raw", "")
    data = ("--dataset", "mnist", "--data", str(root))
    every = (
        Job("train", partial(_train, data), half_run, _run_ending, RUN_FILES),
        Job("search", partial(_search, data), _half_search, _search_ending, (JOURNAL, TABLE, BEST)),
        Job("reproduce", partial(_reproduce, root), _half_tables, _tables_ending, TABLES),
        Job("kernel cache", None, _half_cache, _cache_ending, (CACHE.name,), _measure),
    )
    return {job.name: job for job in every}


class Process:
    """A process that does ``job`` in ``folder``, after ``prepare``; ``alone`` it shares nothing
    with this one and has all imports before it."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        prepare: Callable[[], Any] = lambda: None,
        alone: bool = False,
    ) -> None:
        self._said, theirs = os.pipe()
        self.number = os.fork()
        if self.number == 0:
            _lived(job, folder, prepare, theirs, alone)
        os.close(theirs)

    def signal(self, number: int) -> None:
        os.kill(self.number, number)

    def is_over(self) -> bool:
        return os.waitid(os.P_PID, self.number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, patience: float = 600.0) -> tuple[int, str]:
        """Its exit status, less than 0 if a signal ended it, and what it printed, errors included.

        It is killed if it takes longer than that.
        """
        last, parts = time.monotonic() + patience, []
        with os.fdopen(self._said, "rb", buffering=0) as said:
            while select.select([said], [], [], max(0.0, last - time.monotonic()))[0]:
                if not (part := said.read(1 << 16)):
                    break
                parts.append(part)
            else:
                self.signal(signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])
        return status, b"".join(parts).decode(errors="replace")


def _lived(job: Job, folder: Path, prepare: Callable[[], Any], said: int, alone: bool) -> NoReturn:
    """What the new process does with its life."""
    status = 70
    try:
        for stream in (1, 2):
            os.dup2(said, stream)
        os.close(said)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        runs.begin, runs.resume = (
            partial(made, checkpoint_seconds=OFTEN) for made in (runs.begin, runs.resume)
        )
        prepare()
        if alone:
            command = (sys.executable, "-m", "softhebb_fast", *job.command(folder))
            os.execv(sys.executable, command)
        status = job.do(folder)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _train(data: Sequence[str], folder: Path) -> Sequence[str]:
    if (folder / CONFIG_FILE).exists():
        return ["resume", str(folder), "--quiet"]
    options = "--unsup-epochs 1 --unsup-batch 4 --probe-epochs 4 --probe-batch 4 --device cpu"
    options += " --no-augment --symmetry-steps 1 4 --quiet"
    return ["train", NETWORK, *data, "--out", str(folder), *options.split()]


RUN_FILES = (
    *(CONFIG_FILE, checkpoint.FILE, metrics.FILE, metrics.NEURONS_FILE, "symmetry.csv"),
    *("filters.png", "curves.png"),
)


def half_run(folder: Path) -> str:
    """The first file of a run that is not whole, and how; "" if all are."""

    def read() -> None:
        if (folder / CONFIG_FILE).exists():
            sealed.read_json(folder / CONFIG_FILE)
        if (folder / checkpoint.FILE).exists():
            load_run(folder)
        if (folder / metrics.FILE).exists():
            metrics.read_csv(folder)
        for path in folder.glob("*.csv"):
            _rows(path)
        for path in folder.glob("*.png"):
            Image.open(path).load()

    return _complaint(read)


def _run_ending(folder: Path) -> str:
    """To the last bit."""
    state = checkpoint.load(folder)
    tensors = {**state["model"], "rng": state["rng"]["cpu"]}
    bits = {name: tensor.numpy().tobytes().hex() for name, tensor in tensors.items()}
    tables = {path.name: _untimed(_rows(path)) for path in sorted(folder.glob("*.csv"))}
    pixels = {path.name: Image.open(path).tobytes().hex() for path in sorted(folder.glob("*.png"))}
    found = [_untimed(state["rows"]), tables, bits, state["neurons"], state["symmetry"], pixels]
    return json.dumps([*found, _left(folder)], sort_keys=True)


def _search(data: Sequence[str], folder: Path) -> Sequence[str]:
    options = "--set outs=2 --set kernel=3 --images 16 --validation 8 --probe-epochs 1 --trials 3"
    return ["search", "table3", *data, "--out", str(folder), *options.split()]


def _half_search(folder: Path) -> str:
    def read() -> None:
        if (folder / JOURNAL).exists():
            list(Journal(folder / JOURNAL).read_logs(0))
        if (folder / TABLE).exists():
            _rows(folder / TABLE)
        if (folder / BEST).exists():
            json.loads((folder / BEST).read_text())

    return _complaint(read)


def _search_ending(folder: Path) -> str:
    """Three trials or more have ended, and no other was lost: their numbers have no gap."""
    rows = _rows(folder / TABLE)
    over = sum(row["state"] in ("complete", "pruned") for row in rows)
    numbers = [int(row["number"]) for row in rows] == list(range(len(rows)))
    return json.dumps([over >= 3, numbers, _left(folder)])


def _reproduce(root: Path, folder: Path) -> Sequence[str]:
    places = ("--data", str(root), "--out", str(folder), "--results", str(folder / "results"))
    options = ("--cells", "mnist-pixels", "--limit", "24", "--device", "cpu", "--quiet")
    return ["reproduce", "figure1", *places, *options]


def _half_tables(folder: Path) -> str:
    def read() -> None:
        for path in (folder / "results").glob("*.csv"):
            results.read(path)

    return _complaint(read) or next(filter(None, map(half_run, _runs_in(folder))), "")


def _tables_ending(folder: Path) -> str:
    tables = {p.name: _untimed(results.read(p)) for p in (folder / "results").glob("*.csv")}
    return json.dumps([tables, _left(folder / "results")], sort_keys=True)


def _runs_in(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob(f"*/{CONFIG_FILE}")]


TABLES = (
    *("results/figure1.csv", "results/table1.csv"),
    *("mnist-pixels-0-limit24/checkpoint.pt", "mnist-pixels-0-limit24/metrics.csv"),
)
CACHE = Measurements(Path("autotune"), "A100", "3.8.0").path


def _measure(folder: Path) -> int:
    """Twenty choices are measured, as the autotuner keeps them."""
    cache = Measurements(folder, "A100", "3.8.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for i in range(20):
            if f"layer {i}" not in cache.choices:
                try:
                    cache.put(f"layer {i}", {"forward": Config(64, 128, 32, 4, 3 + i % 2)})
                except UserWarning as warning:
                    print(f"softhebb-fast: {warning}", file=sys.stderr)
                    return cli.MISTAKE
    return cli.OK


def _half_cache(folder: Path) -> str:
    def read() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Measurements(folder, "A100", "3.8.0")

    return _complaint(read)


def _cache_ending(folder: Path) -> str:
    return json.dumps(Measurements(folder, "A100", "3.8.0").choices)


def _complaint(read: Callable[[], None]) -> str:
    try:
        read()
    except Exception as error:
        return repr(error)
    return ""


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path} has a row with too many or too few cells")
    return rows


def _untimed(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TAKEN} for row in rows]


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def warm(job: Job, folder: Path) -> None:
    """Do ``job`` in this process, on one thread: what is then forked has all imports behind it."""
    torch.set_num_threads(1)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        job.do(folder)
