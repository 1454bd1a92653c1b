"""Launches and bytes of one learning step, counted from the arguments of its launches.

    python -m benchmarks.gpu_traffic     # recompute gpu_traffic.csv, some seconds

What crosses to HBM follows from a model of an H100's L2: 50 MB hold what was touched last, and the
programs of a launch run in waves of 132 in step, so that what several of a wave read comes once. A
tensor of at most half of the L2 stays over the waves of a launch. Every kernel walks against the
one before, so of a tensor that does not fit the part touched last is found again. x and the weights
come from HBM at first. Scratch that is read again before it leaves the L2 counts in
``written_back`` alone, where every byte written is written to HBM once.
``least`` is x, u and what is pooled of it (where they are written), the weights and yx once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch

from benchmarks.gpu_layers import LAYERS, PRECISIONS, call, nbytes
from benchmarks.offline import Launch, record
from softhebb_fast.files import write_csv

TABLE = Path(__file__).with_name("gpu_traffic.csv")
FIELDS = (
    *("layer", "precision", "call", "launches", "least_bytes", "hbm_bytes", "hbm_ratio"),
    "written_back_ratio",
)
L2 = 50e6
WAVE = 132
WRITTEN = {
    "one_pass": ("u", "total", "out", "yx", "sums", "largest"),
    "forward": ("u", "u_low", "total", "out", "top", "win", "lse"),
    "plasticity": ("yx", "sums", "largest"),
    "project": ("yu", "rate", "out"),
    "apply": ("w",),
}
LASTING = ("u", "out", "w")


def tensors(launch: Launch) -> dict[str, torch.Tensor]:
    names = [n for n in launch.kernel.arg_names if n not in launch.constants]
    pairs = zip(names, launch.args, strict=True)
    return {name: a for name, a in pairs if isinstance(a, torch.Tensor)}


def fetched(launch: Launch) -> dict[str, float]:
    """How often an operand is fetched within a launch, as a multiple of its size."""
    c, grid, G = launch.constants, launch.grid, launch.constants["G"]
    if launch.name == "forward":
        runs = -(-G.K // (c["BN"] * c["RUN"]))
        rows = grid[0] // runs

        def part(i: int) -> dict[str, int]:
            here = (i % rows, i // rows) if c["FILTERS_ONCE"] else (i // runs, i % runs)
            return dict(zip(("x", "w"), here, strict=True))

        whole = {"x": rows, "w": runs}
    elif launch.name == "plasticity":
        columns = -(-G.P // c["BP"])

        def part(i: int) -> dict[str, int]:
            split, tile = i // grid[0], i % grid[0]
            return {"x": split, "u": tile // columns * grid[1] + split}

        whole = {"x": grid[1], "u": grid[0] // columns * grid[1]}
    else:
        return {}
    times = dict.fromkeys(whole, 0.0)
    programs = grid[0] * grid[1]
    for first in range(0, programs, WAVE):
        parts = [part(i) for i in range(first, min(first + WAVE, programs))]
        for name in whole:
            times[name] += len({p[name] for p in parts}) / whole[name]
    return times | {"u_low": times["u"]} if "u" in times else times


def moves(launches: list[Launch]) -> Iterator[tuple[float, float]]:
    """For every launch, bytes to and from HBM: as modelled, and with all that is written."""
    history: list[dict[int, int]] = []
    pooled = {id(t) for n in launches for k, t in tensors(n).items() if k == "a"}
    pooled -= {id(t) for n in launches for k, t in tensors(n).items() if k == "u"}
    for launch in launches:
        now = {n: t for n, t in tensors(launch).items() if t.numel()}
        written = [n for n in WRITTEN[launch.name] if n in now]
        times, read, lasting, scratch = fetched(launch), 0.0, 0.0, 0.0
        for name, tensor in now.items():
            if name in written and not (launch.name == "apply" and name == "w"):
                continue
            missed = 1 - held(history, tensor)
            again = times.get(name, 1.0) - 1 if tensor.nbytes > L2 / 2 else 0.0
            read += tensor.nbytes * (missed + max(0.0, again))
        for name in written:
            if name in LASTING and id(now[name]) not in pooled:
                lasting += now[name].nbytes
            else:
                scratch += now[name].nbytes
        evicted = scratch if sum(t.nbytes for t in now.values()) > L2 and scratch > L2 / 2 else 0
        history.append({id(t): t.nbytes for t in now.values()})
        yield read + lasting + evicted, read + lasting + scratch


def held(history: list[dict[int, int]], tensor: torch.Tensor) -> float:
    """The part of a tensor that L2 still holds since an earlier launch touched it last."""
    since: dict[int, int] = {}
    for touched in reversed(history):
        if id(tensor) in touched:
            room = L2 - sum(n for key, n in since.items() if key not in touched)
            return max(0.0, min(1.0, room / sum(touched.values())))
        since |= touched
    return 0.0


def hbm_bytes(launches: list[Launch]) -> list[float]:
    return [moved for moved, _ in moves(launches)]


def least(launches: list[Launch]) -> int:
    """x, W and yx once, u and what is pooled of it where they are written."""
    seen = {name: t for launch in launches for name, t in tensors(launch).items()}
    once = nbytes(*(seen.get(name) for name in ("x", "w", "u", "out")))
    return once + 4 * seen["w"].numel()


def rows() -> Iterator[dict]:
    for layer, precision, kind in product(LAYERS, PRECISIONS, ("step", "block")):
        launches = record(call(layer, precision, kind), "sm_90a")
        lower, all_ = least(launches), list(moves(launches))
        modelled, back = (sum(column) for column in zip(*all_, strict=True))
        row = (
            *(layer, precision, kind, len(launches), lower, round(modelled)),
            *(round(modelled / lower, 3), round(back / lower, 3)),
        )
        yield dict(zip(FIELDS, row, strict=True))


def main() -> int:
    write_csv(TABLE, FIELDS, rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
