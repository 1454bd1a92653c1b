"""Trouble of every kind while commands run: a full disk, a folder that is gone, little memory.

python -m benchmarks.fire.hardships --times 10 --out benchmarks/results/hardships.csv

A command must come to the end of one that had no trouble, or end with one line that says what the
matter is, and come to that end when it is given again. No file may be half at any time. Those that
need the rights of root, or what this system lacks, are left out and named.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fire import record
from benchmarks.fire.jobs import Job, Process, jobs, warm

OUTCOMES = (
    "went on by itself",
    "one line, then the same end",
    "said by a library, then the same end",
)
FAULTS = ("another end", "half a file", "unclear message", "hung", "error")
COLUMNS = ("hardship", "times", *OUTCOMES, *FAULTS, "seed", "commit", "torch")
PATIENCE = 300.0  # seconds after which a command hangs
NOBODY = 65534
LONG_AGO = 86400.0  # seconds by which the clock is set back
KIB = 1024
TEMPORARY = tempfile.gettempdir()  # where a search has its runs
LIBRARY = ("OpenBLAS error: Memory", "bad_alloc", "MemoryError")  # too little for Python itself


@dataclass
class Trial:
    """One command in trouble.

    Attributes:
        rng: what is random in it.
        job, folder: what is done, and where.
        length: seconds that it takes without trouble.
        size: bytes that it leaves then.
        stop: seconds for which it is stopped.
    """

    rng: random.Random
    job: Job
    folder: Path
    length: float
    size: int
    stop: float

    def begin(self, prepare: Callable[[], Any] = lambda: None, alone: bool = False) -> Process:
        return Process(self.job, self.folder, prepare, alone)

    def later(self) -> None:
        """Wait for a random moment of the command."""
        time.sleep(self.rng.uniform(0, self.length))


@dataclass(frozen=True)
class Hardship:
    """A kind of trouble.

    Attributes:
        bring: begin the command and bring it into that trouble; returns its exit status and what
            it printed.
        says: what its one line must say, one of them.
        nameless: whether it need not name a file of its folder.
        jobs: the commands that it is tried on.
        within: makes the folder a place where there is such trouble, until it is left; gives what
            ends the trouble.
        why_not: why it cannot be tried here, or "".
    """

    bring: Callable[[Trial], tuple[int, str]]
    says: tuple[str, ...]
    nameless: bool = False
    jobs: tuple[str, ...] = ("train", "search", "reproduce")
    within: Callable[[Trial], Any] = lambda trial: nullcontext(lambda: None)
    why_not: Callable[[], str] = lambda: ""


def interrupted(trial: Trial) -> tuple[int, str]:
    process = trial.begin()
    for seconds in (trial.length, 0.2):
        time.sleep(trial.rng.uniform(0, seconds))
        process.signal(signal.SIGINT)
    return process.end(PATIENCE)


def stopped(trial: Trial) -> tuple[int, str]:
    process = trial.begin()
    trial.later()
    process.signal(signal.SIGSTOP)
    time.sleep(trial.stop)
    wrong = trial.job.half(trial.folder)
    process.signal(signal.SIGCONT)
    status, said = process.end(PATIENCE)
    return status, said if not wrong else f"Traceback: half while it was stopped: {wrong}"


def undisturbed(trial: Trial) -> tuple[int, str]:
    return trial.begin().end(PATIENCE)


def short_files(trial: Trial) -> tuple[int, str]:
    most = int(trial.size ** trial.rng.uniform(0.3, 1))
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    return trial.begin(limit).end(PATIENCE)


def little_memory(trial: Trial) -> tuple[int, str]:
    """In a process of its own, which needs all that memory from the start."""
    most = int(trial.rng.uniform(0.2, 1) * (1 << 30))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return trial.begin(limit, alone=True).end(PATIENCE)


def clock_set_back(trial: Trial) -> tuple[int, str]:
    """What was written until then is dated a day ahead, and the time of day is one less."""
    process = trial.begin(partial(_set_back, trial.rng.uniform(0, trial.length)))
    trial.later()
    for path in trial.folder.rglob("*"):
        try:
            os.utime(path, (time.time() + LONG_AGO,) * 2)
        except FileNotFoundError:
            continue
    return process.end(PATIENCE)


def _set_back(after: float) -> None:
    now, moment = time.time, time.time() + after
    time.time = lambda: now() - LONG_AGO * (now() > moment)


def folder_removed(trial: Trial) -> tuple[int, str]:
    process = trial.begin()
    trial.later()
    gone = trial.folder.with_name("gone")
    if trial.folder.exists():
        trial.folder.rename(gone)
        shutil.rmtree(gone)
    return process.end(PATIENCE)


def folder_read_only(trial: Trial) -> tuple[int, str]:
    process = trial.begin(_without_rights)
    trial.later()
    for folder in _folders(trial.folder):
        folder.chmod(0o555)
    return process.end(PATIENCE)


def _folders(folder: Path) -> list[Path]:
    return [folder, *(path for path in folder.rglob("*") if path.is_dir())]


def _without_rights() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@contextmanager
def writable_by_all(trial: Trial) -> Iterator[Callable[[], None]]:
    trial.folder.mkdir()
    if os.geteuid() == 0:
        os.chown(trial.folder, NOBODY, NOBODY)

    def open_again() -> None:
        for folder in _folders(trial.folder):
            folder.chmod(0o755)

    yield open_again


@contextmanager
def small_disk(trial: Trial) -> Iterator[Callable[[], None]]:
    place = trial.folder.parent / f"disk of {trial.folder.name}"
    place.mkdir()
    size = trial.rng.randrange(4, 5 + 2 * trial.size // KIB)  # in KiB
    _mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place))
    trial.folder = place / trial.folder.name
    try:
        yield partial(_mount, "-o", "remount,size=64m", str(place))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def no_mounts() -> str:
    with tempfile.TemporaryDirectory() as place:
        try:
            _mount("-t", "tmpfs", "tmpfs", place)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no disk can be mounted here ({error})"
        subprocess.run(["umount", place], check=True)
    return ""


CACHED = ("train", "search", "reproduce", "kernel cache")
FULL = ("No space left on device",)
HARDSHIPS = {
    "SIGINT twice": Hardship(interrupted, ("stopped; ", "interrupted"), True),
    "SIGSTOP for a while": Hardship(stopped, ()),
    "disk full": Hardship(undisturbed, FULL, False, CACHED, small_disk, no_mounts),
    "files limited in size": Hardship(short_files, ("File too large",), False, CACHED),
    "folder read-only midway": Hardship(folder_read_only, (), False, CACHED, writable_by_all),
    "folder removed midway": Hardship(folder_removed, ()),
    "clock set back a day": Hardship(clock_set_back, ()),
    "memory limited": Hardship(little_memory, ("memory",), True, ("train", "reproduce")),
}


def complaint(hardship: Hardship, folder: Path, status: int, said: str) -> str:
    """What is unclear in what a command said that has not come to its end; "" if nothing is."""
    told = [line for line in said.splitlines() if line.startswith("softhebb-fast: ")]
    if status not in (2, 130) or len(told) != 1 or "Traceback" in said:
        return f"exit status {status}, {len(told)} lines"
    says_it = not hardship.says or any(words in told[0] for words in hardship.says)
    names_file = hardship.nameless or any(place in told[0] for place in (str(folder), TEMPORARY))
    return "" if says_it and names_file else f"what it says: {told[0]}"


def tried(hardship: Hardship, trial: Trial, whole: str) -> tuple[str, str]:
    """What becomes of a command in that trouble, in a word, and what it said."""
    with hardship.within(trial) as mend:
        status, said = hardship.bring(trial)
        if status == -signal.SIGKILL:
            return "hung", said
        if wrong := trial.job.half(trial.folder):
            return "half a file", f"{wrong}\n{said}"
        library = hardship is HARDSHIPS["memory limited"] and any(t in said for t in LIBRARY)
        wrong = status and not library and complaint(hardship, trial.folder, status, said)
        if wrong:
            return "unclear message", f"{wrong}\n{said}"
        mend()
        again, more = trial.begin().end(PATIENCE)
        if again:
            return "error", f"{said}\nand then\n{more}"
        if trial.job.ending(trial.folder) != whole:
            return "another end", said
    return OUTCOMES[0 if status == 0 else 2 if library and status != 2 else 1], said


def endure(
    names: Sequence[str], only: Sequence[str], times: int, stop: float, seed: int, folder: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the table, and a line for every fault or hardship that was left out."""
    rng = random.Random(seed)
    folder.chmod(0o755)
    every = {name: job for name, job in jobs(folder / "data").items() if name in only}
    wholes = {}
    for name, job in every.items():
        warm(job, folder / name / "warm")
        began = time.monotonic()
        Process(job, out := folder / name / "whole").end()
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        wholes[name] = time.monotonic() - began, size, job.ending(out)
    made_by = record.made_by(seed=seed)
    rows, notes = [], []
    for name in names:
        hardship = HARDSHIPS[name]
        if why := hardship.why_not():
            notes.append(f"left out: {name}: {why}")
            continue
        for own in (own for own in every if own in hardship.jobs):
            counts: Counter[str] = Counter()
            length, size, whole = wholes[own]
            for i in range(times):
                place = folder / own / f"{name} {i}"
                trial = Trial(rng, every[own], place, length, size, stop)
                outcome, said = tried(hardship, trial, whole)
                counts[outcome] += 1
                if outcome in FAULTS:
                    notes.append(f"{own}, {name}, {i}: {outcome}: {said[-3000:]}")
            row = {"hardship": f"{own}, {name}", "times": times, **counts, **made_by}
            rows.append(row)
    return rows, notes


def main() -> int:
    parser = record.options(
        __doc__, 10, "of each command in each trouble", "what was tried and what became of it"
    )
    parser.add_argument("--stop", type=float, default=60.0, help="seconds that it is stopped")
    parser.add_argument("--only", nargs="+", default=list(HARDSHIPS), choices=HARDSHIPS)
    parser.add_argument("--commands", nargs="+", default=list(CACHED), choices=CACHED)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options.only, options.commands, options.times, options.stop, options.seed)
        rows, notes = endure(*arguments, Path(folder))
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    for note in notes:
        print(note)
    for row in rows:
        found = record.counted(row, (*OUTCOMES, *FAULTS))
        print(f"{row['times']} {row['hardship']}: {found}")
    return int(any(row.get(fault) for row in rows for fault in FAULTS))


if __name__ == "__main__":
    raise SystemExit(main())
