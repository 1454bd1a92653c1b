"""Kill runs at random moments, let them go on, and see what they become.

python -m benchmarks.fire.kills --times 50 --out benchmarks/results/kills.csv

However often it was killed, a run must end with the bits of one that never was, and no file may be
half at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.fire import record
from benchmarks.fire.targets import NETWORK, RUN, write_idx
from softhebb_fast import sealed
from softhebb_fast.training import checkpoint, metrics, runs
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.provenance import provenance
from softhebb_fast.training.run_folder import CONFIG_FILE, load_run

CONFIG = RunConfig(NETWORK, "mnist", **RUN | {"probe_epochs": 4})
OFTEN = 0.0  # seconds between two checkpoints
OUTCOMES = ("same end",)
FAULTS = ("another end", "half a file", "error")
COLUMNS = ("moment", "times", *OUTCOMES, *FAULTS, "seed", "commit", "torch")


def live(folder: Path, root: Path) -> None:
    """Begin the run in ``folder``, or go on with it, to its end."""
    if (folder / CONFIG_FILE).exists():
        runs.resume(folder, checkpoint_seconds=OFTEN).run()
    else:
        runs.begin(CONFIG, folder, root=root, checkpoint_seconds=OFTEN).run()


def killed(folder: Path, root: Path, after: float | None) -> int | None:
    """Let a process ``live``, and kill it ``after`` so many seconds unless that is None. Returns
    None if it was killed, else its exit status."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            live(folder, root)
            status = 0
        finally:
            os._exit(status)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def moment(folder: Path) -> str:
    """What a run was at when it was killed, by what it left."""
    parts = sorted(folder.glob(".*.part"))
    if parts:
        return f"while {parts[0].name[1:].removesuffix('.part')} was written"
    for file in (CONFIG_FILE, checkpoint.FILE):
        if not (folder / file).exists():
            return f"before there was a {file}"
    return "between two files"


def half(folder: Path) -> str:
    """The first file of a run that is not whole, and how; "" if all are."""
    try:
        if (folder / CONFIG_FILE).exists():
            sealed.read_json(folder / CONFIG_FILE)
        if (folder / checkpoint.FILE).exists():
            load_run(folder)
        if (folder / metrics.FILE).exists():
            metrics.read_csv(folder)
    except Exception as error:
        return repr(error)
    return ""


def ending(folder: Path) -> str:
    """What a run has come to, to the last bit, but for the seconds it took."""
    state = checkpoint.load(folder)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in state["rows"]]
    written = [{k: v for k, v in r.items() if k != "seconds"} for r in metrics.read_csv(folder)]
    tensors = {**state["model"], "rng": state["rng"]["cpu"]}
    bits = {name: tensor.numpy().tobytes().hex() for name, tensor in tensors.items()}
    left = sorted(path.name for path in folder.iterdir())
    return json.dumps([rows, written, bits, state["neurons"], left], sort_keys=True)


def kill(times: int, seed: int, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the table, and a line for every fault."""
    rng, root = random.Random(seed), folder / "data"
    write_idx(root / "MNIST" / "raw", "")
    for name in ("first", "whole"):  # the first one also warms up
        began = time.monotonic()
        live(folder / name, root)
        length = time.monotonic() - began
    whole = ending(folder / "whole")
    counts: dict[str, Counter[str]] = {}
    faults: list[str] = []
    made = lives = 0
    while made < times:
        lives += 1
        out, moments, status = folder / f"life {lives}", [], None
        while status is None:
            status = killed(out, root, rng.uniform(0, length) if made < times else None)
            if status is None:
                made += 1
                moments.append(moment(out))
                if wrong := half(out):
                    faults.append(f"life {lives}: half a file: {wrong}")
                    counts.setdefault(moments[-1], Counter())["half a file"] += 1
        outcome = "error" if status else "same end" if ending(out) == whole else "another end"
        if outcome in FAULTS:
            faults.append(f"life {lives}, killed {', '.join(moments)}: {outcome}")
        for each in moments:
            counts.setdefault(each, Counter())[outcome] += 1
    made_by = {key: provenance()[key] for key in ("commit", "torch")} | {"seed": seed}
    rows = [
        {"moment": name, "times": found.total() - found["half a file"], **found, **made_by}
        for name, found in sorted(counts.items())
    ]
    return rows, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="kills in all")
    parser.add_argument("--seed", type=int, default=0, help="rows of others stay in the CSV")
    parser.add_argument("--out", type=Path, help="CSV of when runs were killed, what they became")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process with other threads cannot be forked
    with tempfile.TemporaryDirectory() as folder:
        rows, faults = kill(options.times, options.seed, Path(folder))
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    for fault in faults:
        print(fault)
    for row in rows:
        found = (f"{row[key]} {key}" for key in (*OUTCOMES, *FAULTS) if row.get(key))
        print(f"{row['times']} {row['moment']}: {', '.join(found)}")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
