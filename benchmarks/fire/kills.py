"""Kill commands at random moments, let them go on, and see what they come to.

python -m benchmarks.fire.kills --times 200 --out benchmarks/results/kills.csv

However often it was killed, a command must end with the bits of one that never was, and no file may
be half at any time. Every second kill is aimed at the writing of a file, pictures among them.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.fire import record
from benchmarks.fire.jobs import Job, Process, jobs, warm
from softhebb_fast.training import checkpoint
from softhebb_fast.training.run_folder import CONFIG_FILE

SHARES = {"train": 12, "search": 3, "reproduce": 3, "kernel cache": 2}  # in 20 kills
OUTCOMES = ("same end",)
FAULTS = ("another end", "half a file", "error")
COLUMNS = ("moment", "times", *OUTCOMES, *FAULTS, "seed", "commit", "torch")


def killed(job: Job, folder: Path, after: float, aim: str = "") -> tuple[bool, str]:
    """Let a process do ``job`` and kill it ``after`` so many seconds; with an ``aim``, a file's
    name, as soon as that is written. Returns whether it was killed, and else what it printed."""
    process = Process(job, folder)
    if aim:
        part = (folder / aim).with_name(f".{Path(aim).name}.part")
        while not (os.path.exists(part) or process.is_over()):
            time.sleep(0.0002)
        time.sleep(after / 1000)
    else:
        time.sleep(after)
    process.signal(signal.SIGKILL)
    status, said = process.end()
    if status > 0:
        raise RuntimeError(said)
    return status < 0, said


def moment(job: Job, folder: Path) -> str:
    """What a command was at when it was killed, by what it left."""
    parts = sorted(folder.rglob(".*.part"))
    if parts:
        name = parts[0].name[1:].removesuffix(".part")
        return f"{job.name}, {name} was being written"
    for file in (CONFIG_FILE, checkpoint.FILE) if job.name == "train" else ():
        if not (folder / file).exists():
            return f"{job.name}, before there was a {file}"
    return f"{job.name}, between two files"


def kill(times: int, seed: int, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the table, and a line for every fault."""
    rng, every = random.Random(seed), jobs(folder / "data")
    counts: dict[str, Counter[str]] = {}
    faults: list[str] = []
    for name, job in every.items():
        share = -(-times * SHARES[name] // sum(SHARES.values()))
        for own, lived in _kill(job, share, rng, folder / name, faults):
            for outcome in lived:
                counts.setdefault(own, Counter())[outcome] += 1
    made_by = record.made_by(seed=seed)
    rows = [
        {"moment": name, "times": found.total() - found["half a file"], **found, **made_by}
        for name, found in sorted(counts.items())
    ]
    return rows, faults


def _kill(
    job: Job, times: int, rng: random.Random, folder: Path, faults: list[str]
) -> list[tuple[str, list[str]]]:
    """Kill ``job`` so often; returns the moments, each with what became of it."""
    warm(job, folder / "warm")
    began = time.monotonic()
    Process(job, folder / "whole").end()
    length, whole = time.monotonic() - began, job.ending(folder / "whole")
    found: list[tuple[str, list[str]]] = []
    lives = 0
    while len(found) < times:
        lives += 1
        out, moments, over = folder / f"life {lives}", [], False
        try:
            while not over and len(found) + len(moments) < times:
                aim = rng.choice(job.files) if rng.random() < 0.5 else ""
                was_killed, _ = killed(job, out, rng.uniform(0, 1 if aim else length), aim)
                over = not was_killed
                if was_killed:
                    moments.append((moment(job, out), []))
                    if wrong := job.half(out):
                        faults.append(f"{job.name} {lives}, {moments[-1][0]}: half: {wrong}")
                        moments[-1][1].append("half a file")
            status, said = Process(job, out).end()
            outcome = "error" if status else "another end" if job.ending(out) != whole else ""
        except RuntimeError as error:
            outcome, said = "error", str(error)
        if outcome:
            at = "; ".join(name for name, _ in moments)
            faults.append(f"{job.name} {lives}, killed at {at}: {outcome}: {said[-2000:]}")
        for _, became in moments:
            became.append(outcome or "same end")
        found += moments
    return found


def main() -> int:
    parser = record.options(__doc__, 200, "kills in all", "when they were killed, what they became")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, faults = kill(options.times, options.seed, Path(folder))
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    for fault in faults:
        print(fault)
    for row in rows:
        found = record.counted(row, (*OUTCOMES, *FAULTS))
        print(f"{row['times']} {row['moment']}: {found}")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
