"""One training step of the largest published network, and what is said where it does not fit.

python -m benchmarks.fire.largest --out benchmarks/results/largest.csv

Every limit of memory (of the address space, ``RLIMIT_AS``) is a process of its own. It makes the
step, or ends with an error that says how much memory was asked for: never with a signal, and never
with another step.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.fire import record
from softhebb_fast.models import build
from softhebb_fast.training.provenance import provenance

NETWORK, SHAPE, CLASSES = "6SoftHebbCnnImNet", (3, 160, 160), 10
LIMITS = (0, 8, 4, 3, 2, 1)  # GiB; 0 is none
OUTCOMES = ("one step", "refused")
FAULTS = ("unclear error", "killed")
COLUMNS = ("limit", "times", *OUTCOMES, *FAULTS, "peak", "said", "seed", "commit", "torch")
GIB = 2**30
ASKED = ("you tried to allocate", "GiB")  # an error must have one of them


def step(network: str, shape: tuple[int, int, int], batch: int) -> int:
    """Build a network, let every layer learn from one batch; returns how many weights moved."""
    torch.manual_seed(0)
    net = build(network, shape, CLASSES)
    x = torch.rand(batch, *shape)
    moved = 0
    with torch.no_grad():
        for block in net.blocks:
            some = block.layer.weight[:, :1].clone()
            x = block(x)
            moved += int((block.layer.weight[:, :1] != some).sum())
    if not x.isfinite().all() or not moved:
        raise ArithmeticError("the step is not one")
    return moved


def limited(limit: float, network: str, shape: tuple[int, int, int], batch: int) -> dict[str, Any]:
    """A row of the table: what became of a step in a process with ``limit`` GiB."""
    given = [str(limit), network, "x".join(map(str, shape)), str(batch)]
    command = [sys.executable, "-m", "benchmarks.fire.largest", "--child", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    row = {"limit": f"{limit} GiB" if limit else "none", "times": 1, "peak": "", "said": ""}
    if done.returncode == 0:
        return row | {"one step": 1, "peak": done.stdout.strip()}
    said = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode < 0:
        return row | {"killed": 1, "said": said}
    clear = any(asked in done.stderr for asked in ASKED)
    return row | {"refused" if clear else "unclear error": 1, "said": said}


def child(limit: float, network: str, shape: tuple[int, int, int], batch: int) -> None:
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (int(limit * GIB),) * 2)
    step(network, shape, batch)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1, help="images of the step")
    parser.add_argument("--out", type=Path, help="CSV of what became of it")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        limit, network, shape, batch = options.child
        child(float(limit), network, tuple(map(int, shape.split("x"))), int(batch))
        return 0
    made_by = {key: provenance()[key] for key in ("commit", "torch")} | {"seed": 0}
    rows = []
    for limit in LIMITS:
        rows.append(limited(limit, NETWORK, SHAPE, options.batch) | made_by)
        print({key: value for key, value in rows[-1].items() if key in COLUMNS[:8]}, flush=True)
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    return int(any(row.get(fault) for row in rows for fault in FAULTS))


if __name__ == "__main__":
    raise SystemExit(main())
