"""One training step of the largest published network, and what is said where it does not fit.

python -m benchmarks.fire.largest --out benchmarks/results/largest.csv

Every limit of memory (of the address space, ``RLIMIT_AS``) is a process of its own. It makes the
step, or ends with an error that says how much memory was asked for, and for what: never with a
signal. A step that finds too little leaves the weights as they were.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.fire import record
from softhebb_fast.models import build

NETWORK, SHAPE, CLASSES = "6SoftHebbCnnImNet", (3, 160, 160), 10
# GiB of the process, and GiB that the step may take beside the network; 0 is no limit.
LIMITS = ((0, 0), (4, 0), (2, 0), (1, 0), (0, 1), (0, 0.5), (0, 0.1))
OUTCOMES = ("one step", "refused")
FAULTS = ("unclear error", "killed")
COLUMNS = (
    "limit",
    "times",
    *OUTCOMES,
    *FAULTS,
    "peak",
    "asked for",
    "said",
    "seed",
    "commit",
    "torch",
)
GIB = 2**30
ASKED = r"you tried to allocate (\d+) bytes"  # torch's words


def step(network: str, batch: int, beside: float) -> None:
    """Build a network and let every layer learn from one batch."""
    torch.manual_seed(0)
    net = build(network, SHAPE, CLASSES)
    x = torch.rand(batch, *SHAPE)
    if beside:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit(used + beside * GIB)
    with torch.no_grad():
        for i, block in enumerate(net.blocks):
            weight = block.layer.weight
            before = float(weight.sum())
            try:
                x = block(x)
            except (RuntimeError, MemoryError) as error:
                if float(weight.sum()) != before:
                    raise ArithmeticError(f"half a step of layer {i}") from error
                raise
            if float(weight.sum()) == before:
                raise ArithmeticError(f"layer {i} has not learned")


def limited(limit: float, beside: float, network: str, batch: int) -> dict[str, Any]:
    """A row of the table: what became of a step with so much memory."""
    given = map(str, (limit, beside, network, batch))
    command = [sys.executable, "-m", "benchmarks.fire.largest", "--child", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    name = f"{limit} GiB" if limit else f"{beside} GiB beside the network" if beside else "none"
    row = {"limit": name, "times": 1, "peak": "-", "asked for": "-", "said": ""}
    if done.returncode == 0:
        return row | {"one step": 1, "peak": done.stdout.strip()}
    said = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode < 0:
        return row | {"killed": 1, "said": said}
    asked = re.search(ASKED, said)
    if asked is None:
        return row | {"unclear error": 1, "said": said}
    return row | {"refused": 1, "asked for": f"{int(asked[1]) / GIB:.2f} GiB", "said": said}


def child(limit: float, beside: float, network: str, batch: int) -> None:
    if limit:
        _limit(limit * GIB)
    step(network, batch, beside)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def _limit(size: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (int(size),) * 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1, help="images of the step")
    parser.add_argument("--out", type=Path, help="CSV of what became of it")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        limit, beside, network, batch = options.child
        child(float(limit), float(beside), network, int(batch))
        return 0
    made_by = record.made_by(seed=0)
    rows = []
    for limit, beside in LIMITS:
        rows.append(limited(limit, beside, NETWORK, options.batch) | made_by)
        print({key: value for key, value in rows[-1].items() if key in COLUMNS[:8]}, flush=True)
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    return int(any(row.get(fault) for row in rows for fault in FAULTS))


if __name__ == "__main__":
    raise SystemExit(main())
