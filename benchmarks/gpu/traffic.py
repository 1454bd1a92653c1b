"""Launches and bytes of one learning step, counted from the arguments of its launches.

    python -m benchmarks.gpu.traffic     # recompute traffic.csv, some seconds

What crosses to HBM follows from a model of an H100's L2: 50 MB, which what was touched longest ago
leaves first. The programs of a launch run in the order of their numbers, in waves of 132 in step,
and touch pieces of a tensor: some positions, channels or neurons. x and the weights come from HBM
at first. Scratch that is read again before it leaves the L2 counts in ``written_back`` alone, where
every byte written is written to HBM once.
``least`` is x, u and what is pooled of it (where they are written), the weights and yx once.
``bound`` is the least that the launches of a call can move, in whatever order their programs run:
what one of them leaves to a later one lies in L2 meanwhile, or crosses to HBM.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from math import ceil
from pathlib import Path

import torch

from benchmarks.gpu.l2 import L2, Cache
from benchmarks.gpu.layers import LAYERS, PRECISIONS, call, nbytes
from benchmarks.gpu.offline import Launch, record
from softhebb_fast.files import write_csv

TABLE = Path(__file__).with_name("traffic.csv")
FIELDS = (
    *("layer", "precision", "call", "launches", "least_bytes", "hbm_bytes", "hbm_ratio"),
    *("bound_ratio", "written_back_ratio"),
)
WAVE = 132
POSITIONS, NEURONS = 256, 16  # of a piece
WRITTEN = {
    "one_pass": ("u", "u_sums", "out", "yx", "y_sums", "dw_absmax"),
    "prepare": ("x_absmax", "x0", "x1", "w16", "w_inverse", "counters"),
    "forward": (
        *("u", "u_low", "u_sums", "out", "top", "win", "log_sum"),
        *("y", "y1", "x0", "x1", "y_sums"),
    ),
    "activity": ("y", "y1", "x0", "x1", "y_sums"),
    "plasticity": ("yx", "rest", "yu", "d", "norms"),
    "reduce_splits": ("d", "norms"),
    "apply": ("w", "out"),
}
LASTING = ("u", "out", "w")
BY_NEURON = ("u", "u_low", "y", "y1")  # maps of positions and neurons
BY_CHANNEL = ("x", "x0", "x1")
STATISTICS = ("u_sums", "top", "win", "anti", "log_sum")
Touch = tuple[str, tuple[int, ...], bool]  # a tensor, the piece, whether it is written


class Pieces:
    """A call's tensors in pieces, and the order in which its launches touch them."""

    def __init__(self, launches: list[Launch]) -> None:
        first = next(launch for launch in launches if launch.name in ("one_pass", "forward"))
        self.G = G = first.constants["G"]
        self.positions = ceil(images(launches).shape[0] * G.pixels / POSITIONS)
        self.channels = G.C // G.CHUNK
        self.neurons = ceil(G.K / NEURONS)

    def number(self, launch: Launch, name: str) -> int:
        counts = {
            **dict.fromkeys(BY_CHANNEL, self.positions * self.channels),
            **dict.fromkeys(BY_NEURON, self.positions * self.neurons),
            **dict.fromkeys(("w", "w16", "d"), self.neurons),
            "yx": self.neurons * shares(launch.constants),
            "out": self.positions,
            "a": self.positions * (1 if launch.constants.get("BLOCKS") else self.neurons),
        }
        return counts.get(name, self.positions if name in STATISTICS else 1)

    def touches(self, launch: Launch) -> Iterator[Touch]:
        return getattr(self, launch.name)(launch, launch.constants)

    def prepare(self, launch: Launch, c: dict) -> Iterator[Touch]:
        everything = [range(self.positions)], [range(self.channels)]
        for name in BY_CHANNEL:
            yield from self.all_of(name, *everything, write=name != "x")
        for name in ("w", "w16"):
            yield from self.all_of(name, [range(self.neurons)], write=name != "w")

    def forward(self, launch: Launch, c: dict) -> Iterator[Touch]:
        rows, tiles = launch.tiles
        for wave in waves(rows * tiles):
            here = [(i % rows, i // rows) if c["FILTERS_ONCE"] else divmod(i, tiles) for i in wave]
            positions = {m: self.of_positions(m, c["BM"]) for m, _ in here}
            neurons = {n: span(n, c["BN"], NEURONS, self.neurons) for _, n in here}
            yield from self.all_of("x", positions.values(), [range(self.channels)])
            yield from self.all_of("w", neurons.values())
            for m, n in here:
                for name in BY_NEURON:
                    yield from self.all_of(name, [positions[m]], [neurons[n]], write=True)
            for name in STATISTICS:
                yield from self.all_of(name, positions.values(), write=True)
            for name in BY_CHANNEL[1:]:
                yield from self.all_of(name, positions.values(), [range(self.channels)], write=True)

    def activity(self, launch: Launch, c: dict) -> Iterator[Touch]:
        for m in reversed(range(self.positions)):
            for name in BY_NEURON:
                write = name.startswith("y")
                yield from self.all_of(name, [[m]], [range(self.neurons)], write=write)
            for name in STATISTICS:
                yield name, (m,), False
        for m in range(self.positions):
            for name in BY_CHANNEL:
                yield from self.all_of(name, [[m]], [range(self.channels)], write=name != "x")

    def plasticity(self, launch: Launch, c: dict) -> Iterator[Touch]:
        columns, splits = ceil(self.G.P / c["BP"]), shares(c)
        chunk = self.G.P // self.channels
        for wave in waves(launch.grid[0] * splits):
            placed = (place(i, launch) for i in wave)
            here = [(part, *divmod(tile, columns)) for part, tile in placed]
            neurons = {k: span(k, c["BN"], NEURONS, self.neurons) for _, k, _ in here}
            channels = {p: span(p, c["BP"], chunk, self.channels) for *_, p in here}
            for step in range(max(ceil(self.positions / n) for (_, n), *_ in here)):
                at = {part: self.from_the_end(*part, step) for part, *_ in here}
                for part, p in dict.fromkeys((part, p) for part, _, p in here):
                    for name in BY_CHANNEL:
                        yield from self.all_of(name, [at[part]], [channels[p]])
                for part, k in dict.fromkeys((part, k) for part, k, _ in here):
                    for name in BY_NEURON[2:]:
                        yield from self.all_of(name, [at[part]], [neurons[k]])
            for s, k in dict.fromkeys((s % splits, k) for (s, _), k, _ in here):
                yield from self.all_of("yx", [[s]], [neurons[k]], write=True)
            yield "rest", (0,), True
            if splits == 1:
                yield from self.all_of("w", neurons.values())
        if splits > 1:
            yield from self.update(splits)

    def one_pass(self, launch: Launch, c: dict) -> Iterator[Touch]:
        splits, everything = c["SPLITS"], range(self.neurons)
        for step in range(ceil(self.positions / splits)):
            at = [self.from_the_start(s, splits, step) for s in range(splits)]
            yield from self.all_of("x", at, [range(self.channels)])
            yield from self.all_of("w", [everything])
            yield from self.all_of("u", at, [everything], write=True)
            for name in ("out", "u_sums"):
                yield from self.all_of(name, at, write=True)
        yield from self.all_of("yx", [range(splits)], [everything], write=True)

    def reduce_splits(self, launch: Launch, c: dict) -> Iterator[Touch]:
        yield from self.update(c["SPLITS"])

    def update(self, splits: int) -> Iterator[Touch]:
        for k in range(self.neurons):
            yield from self.all_of("yx", [range(splits)], [[k]])
            yield "w", (k,), False
            yield "d", (0, k), True

    def apply(self, launch: Launch, c: dict) -> Iterator[Touch]:
        for k in reversed(range(self.neurons)):
            yield "d", (0, k), False
            yield "w", (k,), False
        neurons = () if c["BLOCKS"] else ([range(self.neurons)],)
        for m in range(self.positions):
            yield from self.all_of("a", [[m]], *neurons)
            yield "u_sums", (m,), False
            yield "out", (m,), True

    def of_positions(self, tile: int, rows: int) -> range:
        return span(tile, rows, POSITIONS, self.positions)

    def from_the_start(self, split: int, splits: int, step: int) -> range:
        first, end = (n * self.positions // splits for n in (split, split + 1))
        return range(first + step, first + step + (first + step < max(end, first + 1)))

    def from_the_end(self, split: int, splits: int, step: int) -> range:
        first, end = (n * self.positions // splits for n in (split, split + 1))
        last = max(end, first + 1) - step
        return range(max(first, last - 1), last)

    @staticmethod
    def all_of(name: str, *axes, write: bool = False) -> Iterator[Touch]:
        """Pieces of a tensor: the product of its axes, each the union of some ranges."""
        whole = [dict.fromkeys(i for part in parts for i in part) for parts in axes]
        for index in product(*whole):
            yield name, index, write


def shares(c: dict) -> int:
    """The programs that every tile of a launch has."""
    return 1 if c.get("WHOLE") else c.get("SPLITS", 1)


def place(i: int, launch: Launch) -> tuple[tuple[int, int], int]:
    """What program ``i`` of plasticity has: a part of the positions and their number, and a
    tile."""
    tiles, whole, splits = launch.grid[0], launch.constants["WHOLE"], launch.constants["SPLITS"]
    if not whole:
        return (i // tiles, splits), i % tiles
    if i < whole:
        return (0, 1), i
    return ((i - whole) % splits, splits), whole + (i - whole) // splits


def span(tile: int, size: int, unit: int, number: int) -> range:
    """The pieces of ``unit`` that a tile of ``size`` touches."""
    return range(tile * size // unit, min(number, ceil((tile + 1) * size / unit)))


def waves(programs: int) -> Iterator[range]:
    for first in range(0, programs, WAVE):
        yield range(first, min(first + WAVE, programs))


def tensors(launch: Launch) -> dict[str, torch.Tensor]:
    named = launch.named.items()
    return {name: a for name, a in named if isinstance(a, torch.Tensor) and a.numel()}


def images(launches: list[Launch]) -> torch.Tensor:
    """x as it is given."""
    return next(found["x"] for found in map(tensors, launches) if "x" in found)


def lasting(launches: list[Launch]) -> set[int]:
    """The tensors that outlive the call: its results and the weights. The map of blocks and the
    filters that were made 16-bit factors do not."""
    named = {(n, id(t)) for launch in launches for n, t in tensors(launch).items()}
    of_blocks = {i for n, i in named if n == "a"} - {i for n, i in named if n == "u"}
    return {i for n, i in named if n in LASTING} - of_blocks - {i for n, i in named if n == "w16"}


def forgets(launch: Launch, name: str) -> bool:
    """Whether a hint lets a tensor leave the L2 first: u, where y is made of it."""
    return (
        name in ("u", "u_low") and launch.name in ("forward", "activity") and "y" in tensors(launch)
    )


def moves(launches: list[Launch]) -> Iterator[tuple[float, float]]:
    """For every launch, bytes to and from HBM: as modelled, and with all that is written."""
    pieces, cache, kept = Pieces(launches), Cache(), lasting(launches)
    for launch in launches:
        now = tensors(launch)
        read, evicted = cache.read, cache.evicted
        for name, index, write in pieces.touches(launch):
            if name in now:
                size = now[name].nbytes / pieces.number(launch, name)
                dirty = write and id(now[name]) not in kept
                forget = forgets(launch, name)
                cache.touch((id(now[name]), *index), size, dirty, write, forget)
        written = [now[n] for n in WRITTEN[launch.name] if n in now]
        out = sum(t.nbytes for t in written if id(t) in kept)
        scratch = sum(t.nbytes for t in written if id(t) not in kept)
        read, evicted = cache.read - read, cache.evicted - evicted
        yield read + out + evicted, read + out + scratch


def bound(launches: list[Launch]) -> float:
    """The fewest bytes that these launches can move.

    From one use of a tensor to the next it takes its share of the L2 or crosses, scratch just
    written twice. Shares go to the shortest waits first, which block the fewest others.
    """
    kept, moved, last, waits = lasting(launches), 0.0, {}, []
    for i, launch in enumerate(launches):
        for name, tensor in tensors(launch).items():
            size, key = tensor.nbytes, id(tensor)
            write = name in WRITTEN[launch.name]
            if not write or (launch.name, name) == ("apply", "w"):
                if key in last:
                    since, dirty = last[key]
                    waits.append((i - since, -1 - dirty, since, size))
                else:
                    moved += size
            if write and key in kept:
                moved += size
            last[key] = i, write and key not in kept
    room = [L2] * len(launches)
    for length, cost, since, size in sorted(waits):
        held = min(size, *room[since : since + length])
        for j in range(since, since + length):
            room[j] -= held
        moved -= cost * (size - held)
    return moved


def hbm_bytes(launches: list[Launch]) -> list[float]:
    return [moved for moved, _ in moves(launches)]


def least(launches: list[Launch]) -> int:
    """x, W and yx once, u and what is pooled of it where they are written."""
    seen = {name: t for launch in launches for name, t in tensors(launch).items()}
    once = nbytes(images(launches), *(seen.get(name) for name in ("w", "u", "out")))
    return once + 4 * seen["w"].numel()


def rows() -> Iterator[dict]:
    for layer, precision, kind in product(LAYERS, PRECISIONS, ("step", "block")):
        launches = record(call(layer, precision, kind), "sm_90a")
        lower, all_ = least(launches), list(moves(launches))
        modelled, back = (sum(column) for column in zip(*all_, strict=True))
        ratios = (round(n / lower, 3) for n in (modelled, bound(launches), back))
        row = (layer, precision, kind, len(launches), lower, round(modelled), *ratios)
        yield dict(zip(FIELDS, row, strict=True))


def main() -> int:
    write_csv(TABLE, FIELDS, rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
