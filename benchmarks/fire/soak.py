"""Train for an hour, call a million times, and see whether anything grows or slows.

python -m benchmarks.fire.soak --minutes 60 --calls 1000000 --out benchmarks/results/soak.csv

One process trains one small network after the other, each in a folder of its own. After each run
its memory, open files and the bytes in the folder are sampled, and its speed beside that of a young
process, which trains the same network in turn with it: what else the machine does slows both. The
first tenth of the samples is warm-up; the medians of the next quarter and of the last are compared.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from benchmarks.fire import record
from benchmarks.fire.targets import NETWORK
from softhebb_fast import SoftHebbLinear, functional
from softhebb_fast.files import write_csv
from softhebb_fast.training import runs
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.reporter import Reporter

COLUMNS = ("measure", "samples", "early", "late", "change", "flat", "minutes", "commit", "torch")
SAMPLED = ("memory (MiB)", "speed of a young process", "open files", "bytes in the folder")
WITHIN = 0.01  # of the early median, what is flat
IMAGES, BATCH = 1000, 8
WARM_UP = 20_000  # calls
OPTIONS = {
    **{"unsup_batch": BATCH, "probe_batch": BATCH, "unsup_epochs": 1, "probe_epochs": 1},
    "augment": False,
}


class Steps(Reporter):
    """Counts what a run has done."""

    def __init__(self) -> None:
        self.images = 0

    def advance(self, count: int) -> None:
        self.images += count


def memory() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def trained(folder: Path, images: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, ...]:
    """One run, and what there is after it, in the order of ``SAMPLED``: the speed in steps per
    second of processor."""
    told, config = Steps(), RunConfig(NETWORK, "images", **OPTIONS)
    began = time.process_time()  # other programs on the machine take no part
    run = runs.begin(
        config, folder, train=images, test=images, reporter=told, checkpoint_seconds=0.5
    )
    run.run()
    speed = told.images / BATCH / (time.process_time() - began)
    del run
    gc.collect()
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return memory(), speed, float(len(os.listdir("/proc/self/fd"))), float(written)


class Young:
    """This process as it is now: copies of it do what it would have done."""

    def __init__(self, work: Callable[[], float]) -> None:
        asked, self._ask = os.pipe()
        self._told, tell = os.pipe()
        if os.fork() == 0:
            os.close(self._ask)
            while os.read(asked, 1):
                if os.fork() == 0:
                    found = math.nan
                    try:
                        found = work()
                    finally:
                        os.write(tell, repr(found).encode())
                        os._exit(0)
                os.wait()
            os._exit(0)
        os.close(asked)
        os.close(tell)

    def does(self) -> float:
        os.write(self._ask, b"?")
        return float(os.read(self._told, 64))

    def close(self) -> None:
        os.close(self._ask)
        os.close(self._told)
        os.wait()


def soak(minutes: float) -> Iterator[dict[str, Any]]:
    """Rows of the table, for ``SAMPLED``."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(IMAGES) % 10
    images = torch.rand(IMAGES, 1, 12, 12, generator=generator), labels
    samples: list[tuple[float, ...]] = []
    with tempfile.TemporaryDirectory() as root:

        def train() -> tuple[float, ...]:
            with tempfile.TemporaryDirectory(dir=root) as folder:
                return trained(Path(folder) / "run", images)

        train()  # what is imported then, both have
        young = Young(lambda: train()[1])
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end or len(samples) < 20:
            size, speed, *rest = train()
            samples.append((size, speed / young.does(), *rest))
        young.close()
    kept = samples[len(samples) // 10 :]
    return [row(name, [sample[i] for sample in kept], minutes) for i, name in enumerate(SAMPLED)]


def row(measure: str, values: list[float], minutes: float) -> dict[str, Any]:
    """What became of ``values``, of the first quarter and of the last."""
    some = max(1, len(values) // 4)
    early, late = statistics.median(values[:some]), statistics.median(values[-some:])
    change = (late - early) / early
    return {
        "measure": measure,
        "samples": len(values),
        "early": f"{early:.6g}",
        "late": f"{late:.6g}",
        "change": f"{100 * change:+.2f} %",
        "flat": "yes" if abs(change) <= WITHIN else "no",
        "minutes": f"{minutes:g}",
    }


def called(name: str, call: Callable[[], object], times: int) -> dict[str, Any]:
    """A row of the table: memory over so many calls."""
    for _ in range(WARM_UP):
        call()
    gc.collect()
    values, before = [], time.monotonic()
    for i in range(times):
        call()
        if i % max(1, times // 100) == 0:
            values.append(memory())
    return row(f"memory (MiB) over {times} {name}", values, (time.monotonic() - before) // 60)


def calls(times: int) -> Iterator[dict[str, Any]]:
    """Rows of the table, for a function and for a layer that learns."""
    torch.manual_seed(0)
    x, layer = torch.rand(2, 6), SoftHebbLinear(6, 4, update="in_place", lr=0.01)
    weight = torch.rand(4, 6)
    with torch.no_grad():
        yield called("calls of a function", lambda: functional.softhebb_linear(x, weight), times)
        yield called("steps of a layer", lambda: layer(x), times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="of training")
    parser.add_argument("--calls", type=int, default=1_000_000, help="of either kind")
    parser.add_argument("--out", type=Path, help="CSV of what was sampled")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made_by = record.made_by()
    rows = []
    for each in chain(calls(options.calls), soak(options.minutes)):
        rows.append(each | made_by)
        print(", ".join(f"{name} {each[name]}" for name in COLUMNS[:6]), flush=True)
    if options.out:
        write_csv(options.out, COLUMNS, rows)
    return int(any(each["flat"] == "no" for each in rows))


if __name__ == "__main__":
    raise SystemExit(main())
