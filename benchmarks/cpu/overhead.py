"""What a training step spends outside its kernels: Python, PyTorch's calls, fetching the images.

    python -m benchmarks.cpu.overhead --threads 2 --csv benchmarks/results/overhead.csv

Steps of the trainer's stages on the CIFAR-10 net at batch 10. Inside are this package's operators
and batch norm, with the crossing into C++; outside is everything else between one step and the
next, progress and the check for a checkpoint included.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F

from benchmarks.cpu import report
from softhebb_fast import ops
from softhebb_fast.bench.cases import select
from softhebb_fast.bench.inputs import inputs
from softhebb_fast.bench.phases import images
from softhebb_fast.bench.providers import network
from softhebb_fast.data import permutation
from softhebb_fast.models import features
from softhebb_fast.training import steps
from softhebb_fast.training.features import FeatureSet
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.stage import BatchSource

Clock = Callable[[], float]
FIELDS = ("layers", "step_seconds", "outside_seconds", "outside_share")


class Inside:
    """Adds up the seconds spent in the functions that it wraps."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds = clock, 0.0

    def wrap(self, function: Callable) -> Callable:
        def timed(*arguments, **options):
            begin = self.clock()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += self.clock() - begin

        return timed


class Timed:
    """The operators, each of them timed."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside

    def __getattr__(self, name: str) -> Callable:
        timed = self.inside.wrap(getattr(torch.ops.softhebb_fast, name))
        setattr(self, name, timed)
        return timed


@contextmanager
def watched(clock: Clock) -> Iterator[Inside]:
    """Time the operators and batch norm."""
    inside = Inside(clock)
    with (
        patch.object(ops.ops, "call", Timed(inside)),
        patch.object(F, "batch_norm", inside.wrap(F.batch_norm)),
    ):
        yield inside


def stage(trained: list[int]) -> HebbianStage:
    """A stage of the trainer on the CIFAR-10 net, with the features below it kept."""
    (case,) = select(["cifar10/step/b10"])
    given = inputs(case, torch.device("cpu"))
    net, source = network(case, given, "cpp"), images(case, torch.device("cpu"))
    first = trained[0]
    if first:
        x, labels = source.subset(500).batch(slice(None))
        kept = BatchSource(FeatureSet(features(list(net.eval().blocks[:first]), x), labels), [])
    else:
        kept = BatchSource(source, [])
    return HebbianStage(net, kept, source, trained, 1, case.batch)


def measure(trained: list[int], count: int, clock: Clock) -> tuple[float, float]:
    """Medians: seconds of a step, and of what is outside."""
    watched_stage, times = stage(trained), []
    samples = len(watched_stage.inputs.source)

    def walk() -> Iterator[int]:
        for epoch in itertools.count():
            yield from steps.runner(watched_stage).walk(permutation(samples, 0, epoch))

    with watched(clock) as inside:
        begin = clock()
        for _ in itertools.islice(walk(), count + 5):
            end = clock()
            times.append((end - begin, end - begin - inside.seconds))
            begin, inside.seconds = end, 0.0
    whole, outside = zip(*times[5:], strict=True)
    return statistics.median(whole), statistics.median(outside)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is not quiet")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    clock = time.process_time if options.cpu_time else time.perf_counter
    rows = []
    print("layers that learn   step       outside    share")
    for trained in ([0], [1], [2], [0, 1, 2]):
        step, outside = measure(trained, options.steps, clock)
        name = " ".join(str(i + 1) for i in trained)
        rows.append((name, step, outside, outside / step))
        print(
            f"{name:18} {1e3 * step:7.2f} ms {1e3 * outside:7.3f} ms  {100 * outside / step:5.1f} %"
        )
    if options.csv:
        report.write(options.csv, FIELDS, rows, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
