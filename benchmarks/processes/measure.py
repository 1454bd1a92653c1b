"""Two processes with one thread each beside one process with two, on the same batches.

    python -m benchmarks.processes                  # some minutes on an idle machine
    python -m benchmarks.processes --out FILE --samples 20

Layers of 4SoftHebbCnnCIFAR step on batches of 10 and of 100, its classifier on 64, and its features
are made of 1000 images. Before a case is timed both must come to the same weights after a few
steps, and the two processes to the same bits. Samples alternate between the two sides, and only one
side computes at a time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from softhebb_fast import synchronise
from softhebb_fast.bench import machine
from softhebb_fast.bench.rows import Row, write
from softhebb_fast.data import as_image_set
from softhebb_fast.models import SoftHebbNet, build
from softhebb_fast.presets import get_preset
from softhebb_fast.training.classifier import shared_step, supervised_step
from softhebb_fast.training.features import cache_features
from softhebb_fast.training.ranks import Ranks

TABLE = Path(__file__).parents[1] / "results" / "processes.csv"
NET, IMAGE = "4SoftHebbCnnCIFAR", (3, 32, 32)
GATE_STEPS, TOLERANCE = 3, 1e-5
SECONDS = 0.2  # of a sample, at least


class Case(NamedTuple):
    """What is done to a batch of the whole, and how many operations its products take."""

    name: str
    samples: int
    make: Callable[[SoftHebbNet, int, Ranks], tuple[Callable[[], Any], Callable[[], Tensor]]]
    operations: int


def layer(index: int) -> Callable:
    """Steps of a block on what those below it would give, normal numbers."""

    def make(net: SoftHebbNet, samples: int, ranks: Ranks) -> tuple:
        block, (side, channels) = net.blocks[index], _maps(net)[index]
        x = torch.randn(samples, channels, side, side)[ranks.part(samples)]
        block.train()
        if ranks.several:
            synchronise(block)
        return lambda: block.step_(x), lambda: block.layer.weight

    return make


def classifier(net: SoftHebbNet, samples: int, ranks: Ranks) -> tuple:
    x, part = torch.randn(samples, net.head[-1].in_features), ranks.part(samples)
    labels, head = torch.arange(samples) % 10, nn.Sequential(*net.head).train()
    head[1].p = 0.0
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        given = head, optimizer, x[part], labels[part]
        if ranks.several:
            shared_step(*given, samples, ranks)
        else:
            supervised_step(*given)

    return step, lambda: head[-1].weight


def features(net: SoftHebbNet, samples: int, ranks: Ranks) -> tuple:
    images = torch.randint(0, 256, (samples, *IMAGE), dtype=torch.uint8)
    source = as_image_set((images, torch.arange(samples) % 10))
    blocks, found = list(net.eval().blocks), {}

    def step() -> None:
        found["x"] = cache_features(source, blocks, ranks=ranks).images

    return step, lambda: found["x"]


def cases() -> list[Case]:
    net = _net()
    found = []
    for index, (side, _) in enumerate(_maps(net)):
        operations = 4 * side * side * net.blocks[index].layer.weight.numel()
        found += [
            Case(f"{NET}/layer{index + 1}@{n}", n, layer(index), n * operations) for n in (10, 100)
        ]
    weights = net.head[-1].weight.numel()
    found.append(Case(f"{NET}/classifier@64", 64, classifier, 64 * 4 * weights))
    products = sum(c.operations // 20 for c in found if c.name.endswith("@10"))
    return [*found, Case(f"{NET}/features@1000", 1000, features, 1000 * products)]


def _net() -> SoftHebbNet:
    torch.manual_seed(0)
    return build(get_preset(NET), IMAGE, 10)


def _maps(net: SoftHebbNet) -> list[tuple[int, int]]:
    """Side and channels of what each block sees."""
    x, found = torch.zeros(1, *IMAGE), []
    for block in net.eval().blocks:
        found.append((x.shape[-1], x.shape[1]))
        x = block(x)
    return found


def process(rank: int, size: int, store: str, pipe: Connection) -> None:
    """One of the processes of a side: does the calls that it is told, until it is told None."""
    torch.set_num_threads(2 // size)
    torch.set_flush_denormal(True)
    if size > 1:
        dist.init_process_group(
            "gloo", store=dist.FileStore(store, size), rank=rank, world_size=size
        )
    ranks, known = Ranks.here(), {case.name: case for case in cases()}
    step = weight = None
    while (told := pipe.recv()) is not None:
        kind, value = told
        if kind == "make":
            case, net = known[value], _net()
            step, weight = case.make(net, case.samples, ranks)
            for _ in range(GATE_STEPS):
                step()
            pipe.send(weight().detach().clone())
        else:
            began = time.perf_counter()
            for _ in range(value):
                step()
            pipe.send((time.perf_counter() - began) / value)
    if size > 1:
        dist.destroy_process_group()


class Side:
    """One process with two threads, or two with one."""

    def __init__(self, size: int, folder: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.size, self.pipes = size, []
        for rank in range(size):
            here, there = context.Pipe()
            given = rank, size, f"{folder}/store{size}", there
            context.Process(target=process, args=given, daemon=True).start()
            self.pipes.append(here)

    @property
    def name(self) -> str:
        return "1 process" if self.size == 1 else f"{self.size} processes"

    def tell(self, *told: Any) -> list[Any]:
        for pipe in self.pipes:
            pipe.send(told)
        return [pipe.recv() for pipe in self.pipes]

    def seconds(self, calls: int) -> float:
        return max(self.tell("time", calls))

    def end(self) -> None:
        for pipe in self.pipes:
            with suppress(OSError):
                pipe.send(None)


def gate(case: str, sides: list[Side]) -> None:
    """Raise ValueError unless all processes come to the same."""
    (alone,), several = (side.tell("make", case) for side in sides)
    if not all(torch.equal(several[0], other) for other in several[1:]):
        raise ValueError(f"{case}: the processes come to different bits")
    error = float((several[0] - alone).abs().max() / alone.abs().max().clamp(min=1))
    if not error <= TOLERANCE:
        raise ValueError(f"{case}: the processes come to other weights than one, by {error:.1e}")


def rows(case: Case, sides: list[Side], samples: int) -> list[Row]:
    gate(case.name, sides)
    calls = [max(1, round(SECONDS / side.seconds(1))) for side in sides]
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(samples):
        for side, count, found in zip(sides, calls, times, strict=True):
            found.append(side.seconds(count))
    about = machine.facts("cpu")
    made = []
    for side, found in zip(sides, times, strict=True):
        low, *_, high = statistics.quantiles(found, n=5)
        seconds = {"median": statistics.median(found), "q20": low, "q80": high}
        place = {"device": "cpu", "precision": "ieee", "threads": 2 // side.size}
        rest = {"samples": samples, "calls": 1, "bytes": None, "flops": case.operations}
        made.append(Row(case.name, side.name, **place, **seconds, **rest, **about))
        print(f"{case.name:34} {side.name:12} {1e3 * seconds['median']:9.3f} ms", flush=True)
    return made


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--samples", type=int, default=15)
    parser.add_argument("--cases", nargs="*", help="parts of names; all if not given")
    options = parser.parse_args(arguments)
    if (load := machine.busy()) is not None and load > 0.5:
        print(f"{load:.1f} other processes run here: times will be off", file=sys.stderr)
    wanted = [
        case
        for case in cases()
        if not options.cases or any(part in case.name for part in options.cases)
    ]
    with tempfile.TemporaryDirectory() as folder:
        sides = [Side(size, folder) for size in (1, 2)]
        try:
            found = [row for case in wanted for row in rows(case, sides, options.samples)]
        finally:
            for side in sides:
                side.end()
    write(options.out, found)
    print(options.out)
    return 0
