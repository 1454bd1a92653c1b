"""Do programs that wait for each other lock up, and do they always see what they wait for?

    python -m benchmarks.gpu.stress --csv stress.csv       # on a GPU, a minute
    python -m benchmarks.gpu.stress --device cpu           # rehearses, nothing can wait there

Forward's programs that share positions wait for each other (``kernels.sync``). Each situation
below keeps such launches in flight for some seconds and compares the bits of every result on the
device. A process does them one after the other; where it stops answering it is killed, that is a
row of the table, and another process goes on with the next situation.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast import functional
from softhebb_fast.files import write_csv

FIELDS = ("situation", "streams", "tiles", "seconds", "calls", "other_bits", "outcome")
PATIENCE = 20  # seconds beyond its own that a situation may take before it counts as locked up
IN_FLIGHT = 8  # rounds between two waits of the host
IN_GRAPH = 10  # calls in a graph


class Situation(NamedTuple):
    """``streams`` launch for ``seconds``, beside products that keep the multiprocessors busy, or
    as replays of one graph a stream, or all of them the work of the most tiles."""

    name: str
    streams: int
    seconds: float
    beside: bool = False
    graphs: bool = False
    alike: bool = False


class Work(NamedTuple):
    """A convolution whose neurons take several tiles: shapes of x and of the weight."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    dtype: torch.dtype


SITUATIONS = (
    Situation("one stream", 1, 2),
    Situation("beside products", 1, 3, beside=True),
    Situation("16 streams", 16, 4),
    Situation("2 graphs", 2, 3, graphs=True),
    Situation("8 graphs", 8, 4, graphs=True),
    Situation("16 graphs", 16, 5, graphs=True),
    Situation("16 graphs of the most tiles", 16, 5, graphs=True, alike=True),
    Situation("16 graphs beside products", 16, 5, beside=True, graphs=True),
)
# with positions enough that not all programs fit on the device, and sizes that no tile divides
SHAPES = (
    ((10, 96, 16, 16), (384, 96, 3, 3)),
    ((10, 384, 8, 8), (1536, 384, 3, 3)),
    ((100, 384, 8, 8), (1536, 384, 3, 3)),
    ((7, 96, 15, 13), (1111, 96, 3, 3)),
)
WORKS = (
    *(Work(*shapes, torch.float32) for shapes in SHAPES),
    *(Work(*shapes, torch.bfloat16) for shapes in SHAPES[1:3]),
)
MOST_TILES = 1
SMALL = (Work((2, 8, 5, 5), (24, 8, 3, 3), torch.float32),)


def call(work: Work, device: torch.device) -> Callable[[], Tensor]:
    """What gives the direction of the work's update."""
    generator = torch.Generator(device).manual_seed(1)

    def draw(shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(shape, generator=generator, device=device).to(work.dtype)
        return drawn.to(memory_format=torch.channels_last)

    x, weight = draw(work.x), draw(work.weight) / 9
    return lambda: functional.softhebb_conv2d(x, weight, padding=1, t_invert=1.0)[1]


def once(work: Work, device: str = "cuda") -> None:
    """Compile what the work launches."""
    _tf32(torch.device(device))
    call(work, torch.device(device))()


def situation(s: Situation, device: torch.device) -> tuple[int, int]:
    """Calls made, and how many gave other bits than the first call of the same work."""
    works = [call(work, device) for work in (WORKS if device.type == "cuda" else SMALL)]
    wanted = [work() for work in works]
    if device.type != "cuda":
        pairs = zip(works, wanted, strict=True)
        return len(works), sum(int((work() != bits).any()) for work, bits in pairs)
    streams = [torch.cuda.Stream() for _ in range(s.streams)]
    other = [torch.zeros((), dtype=torch.int64, device=device) for _ in streams]

    def compare(i: int, number: int) -> None:
        number = MOST_TILES if s.alike else number % len(works)
        other[i] += (works[number]() != wanted[number]).any()

    torch.cuda.synchronize()
    replays = [_capture(partial(compare, i, i), t) for i, t in enumerate(streams) if s.graphs]
    side, busy = torch.cuda.Stream(), torch.rand(4096, 4096, device=device)
    calls, end = 0, time.monotonic() + s.seconds
    while time.monotonic() < end:
        for _ in range(IN_FLIGHT):
            if s.beside:
                with torch.cuda.stream(side):
                    busy @ busy
            for i, stream in enumerate(streams):
                with torch.cuda.stream(stream):
                    replays[i]() if s.graphs else compare(i, calls + 3 * i)
                calls += IN_GRAPH if s.graphs else 1
        torch.cuda.synchronize()
    return calls, int(sum(other))


def _capture(work: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(IN_GRAPH):
            work()
    return graph.replay


def _tf32(device: torch.device) -> None:
    os.environ["SOFTHEBB_FAST_PRECISION"] = "tf32" if device.type == "cuda" else "ieee"


def _serve(pipe, first: int, device: str) -> None:
    _tf32(torch.device(device))
    for s in SITUATIONS[first:]:
        try:
            pipe.send(situation(s, torch.device(device)))
        except Exception as error:  # a device-side error ends the process: it is a row too
            pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
            return


def rows(device: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    context = multiprocessing.get_context("spawn")
    while len(found) < len(SITUATIONS):
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, len(found), device), daemon=True)
        process.start()
        theirs.close()
        patience = 3 * PATIENCE  # the first answer comes after torch is there and all is compiled
        while len(found) < len(SITUATIONS):
            s, began = SITUATIONS[len(found)], time.monotonic()
            try:
                answered = pipe.poll(s.seconds + patience)
                answer = pipe.recv() if answered else "locked up"
            except EOFError:
                answer = "the process ended"
            found.append(_row(s, answer, time.monotonic() - began))
            print(" ".join(str(v) for v in found[-1].values()), flush=True)
            if isinstance(answer, str):
                break
            patience = PATIENCE
        process.kill()
        process.join(10)
    return found


def _row(s: Situation, answer: tuple[int, int] | str, seconds: float) -> dict[str, object]:
    calls, other = ("", "") if isinstance(answer, str) else answer
    outcome = answer if isinstance(answer, str) else "other bits" if other else "ok"
    largest = max(-(-work.weight[0] // 128) for work in WORKS)
    values = (s.name, s.streams, largest, f"{seconds:.1f}", calls, other, outcome)
    return dict(zip(FIELDS, values, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    found = rows(options.device)
    if options.csv:
        write_csv(options.csv, FIELDS, found)
    return int(any(row["outcome"] != "ok" for row in found))


if __name__ == "__main__":
    sys.exit(main())
