"""The page about the GPU kernels, written from their committed tables.

python -m benchmarks.gpu.page            # write docs/gpu.md again
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from softhebb_fast.files import write_text

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "gpu.md"
COUNTERS, BUDGET = HERE / "counters.csv", HERE / "budget.csv"
TRAFFIC, TILINGS = HERE / "traffic.csv", HERE / "tilings.csv"
MEASURED = HERE.parent / "results" / "gpu_measured.csv"
TABLES = (COUNTERS, BUDGET, TRAFFIC, TILINGS, MEASURED)
SECTOR = 32  # bytes
NAMED = ("layer", "precision", "kernel")
STEPS = 5000  # of a CIFAR-10 epoch in batches of 10
LAUNCH_US = 2.5  # assumed for a launch that nothing hides

HEAD = """\
# The GPU kernels

Written by `python -m benchmarks.gpu.page` from
[gpu_measured.csv](../benchmarks/results/gpu_measured.csv),
[counters.csv](../benchmarks/gpu/counters.csv), [traffic.csv](../benchmarks/gpu/traffic.csv),
[tilings.csv](../benchmarks/gpu/tilings.csv) and [budget.csv](../benchmarks/gpu/budget.csv).

**Times that a GPU took are in one section, "Measured on an H100". All other times here are
computed.** What stands in the other sections:

- Launches, programs and tiles: read from the launch code.
- Sectors, instructions and products: counted while an emulator executed the PTX that Triton emits
  for sm_90a, of some programs of a launch, and scaled to all of them. Sectors are those that L1
  does not hold.
- Bytes through HBM: from the tensors of the launches and a model of the L2, see
  `benchmarks.gpu.traffic`.
- Floors: computed, the counted work at the full rate of one unit of an H100 (tensor cores, HBM,
  instruction issue, load and store units, shared memory). The slowest unit bounds the kernel from
  below. The time at the full rate of the L2 stands beside. It is no bound: programs that run
  concurrently on a multiprocessor share an L1, and only reuse within one of them is counted.
- Library: NVIDIA's own estimate (nvidia-matmul-heuristics) of a library product of the same shape.
- Registers, spills, shared memory, occupancy and instructions: read from the machine code that
  Triton and the vendors' assemblers make.

A floor is what a kernel cannot beat, not what it will reach: latency, tails and launches come on
top.
"""


MEASURED_TEXT = """\
## Measured on an H100

NVIDIA H100 80GB HBM3, torch 2.11.0+cu130, Triton 3.6.0, driver 580.159. Each kernel of a learning
step in the configuration that is chosen now, in microseconds by the profiler. Times are the median
of five launches with the L2 as a step leaves it. All configurations that were tried are in
[gpu_sweep.csv](../benchmarks/results/gpu_sweep.csv). A time is missing where the one chosen now was
not among them, and for forward of stl10-4, which has changed since.

The kernels have changed since they were measured:

- Forward left y to a launch of 3 to 45 µs after it. It now computes y itself, but for stl10-4. Its
  floors are with y, its times without.
- Plasticity was the product alone. It now computes D as well.
- Plasticity took two bfloat16 terms a factor in tf32 and three in tf32x3. In tf32 it now does what
  it does in bfloat16, in tf32x3 what it did in tf32. Those times are in the sweep.
- Patches of cifar10-2 and stl10-2 now take another way to the tensor cores.

Beside the times stand the floors computed below, and the library on the same machine. That is
`torch.mm` of patches that lie unfolded in memory, without the time of unfolding them, and
`F.conv2d` of padded images or its weight gradient.
Whole steps and other ways to compute them: [benchmarks.md](benchmarks.md#on-a-gpu).

Measured times over floors, the median and the range: {ratios}.
A floor does not tell which of two kernels is faster. Plasticity once computed y anew in each of its
tiles. Its floor was 205 µs in cifar10-3@100 in tf32, half of what the library's product takes
there, and it took 1623 µs, four times as long. Now y is computed once, in 16 bits, which tensor
cores take as they lie in memory. Factors of 32 bits must be transposed for a sum over positions.
"""


def page(
    counters: Sequence[dict[str, str]],
    budget: Sequence[dict[str, str]],
    traffic: Sequence[dict[str, str]] = (),
    tilings: Sequence[dict[str, str]] = (),
    measured: Sequence[dict[str, str]] = (),
) -> str:
    """The page as Markdown."""
    launches = {(r["layer"], r["precision"]): r["launches"] for r in traffic if r["call"] == "step"}
    first = (HEAD, _measured(measured, counters))
    first += (_steps(counters, launches), _epoch(counters, launches))
    rest = (_launches(counters), _traffic(traffic), _tilings(tilings), _budget(budget))
    return "\n".join((*first, *rest))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _measured(rows: Sequence[dict[str, str]], counters: Sequence[dict[str, str]]) -> str:
    """What kernels took on a GPU, beside their floors and the library."""
    floors = {tuple(row[n] for n in NAMED): (row["floor_us"], row["l2_us"]) for row in counters}
    head = ("layer", "precision", "kernel", "tile", "warps", "stages", "µs", "floor µs", "l2 µs")
    cells, times = [], {}
    for row in rows:
        named = tuple(row[n] for n in NAMED)
        floor, l2 = floors.get(named, ("", ""))
        if row["us"] and floor:
            times.setdefault(row["kernel"], []).append(float(row["us"]) / float(floor))
        if row["kernel"] not in ("reduce_splits", "apply"):
            names = ("kernel", "warps", "stages", "us", "mm_us", "conv_us")
            _, *rest, us, mm, conv = (row[n] for n in names)
            cells.append((*named, row["tile"], *rest, us, floor, l2, mm, conv))
    ratios = "; ".join(
        f"{kernel} {median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
        for kernel, found in times.items()
        if kernel not in ("forward", "reduce_splits", "apply")
    )
    text = MEASURED_TEXT.format(ratios=ratios)
    return f"{text}\n{markdown((*head, 'torch.mm µs', 'convolution µs'), cells)}\n"


def _steps(rows: Sequence[dict[str, str]], launches: dict[tuple[str, str], str]) -> str:
    """What a learning step of a layer takes, all launches together."""
    head = ("layer", "precision", "launches", "MB moved", "GFLOP", "floor µs", "tensor µs")
    cells = []
    for (layer, precision), own in grouped(rows, "layer", "precision"):
        sectors = total(own, "l2_sectors") + total(own, "store_sectors")
        cells.append(
            (
                layer,
                precision,
                launches.get((layer, precision), ""),
                f"{sectors * SECTOR / 1e6:.1f}",
                f"{2 * total(own, 'macs') / 1e9:.2f}",
                f"{total(own, 'floor_us'):.1f}",
                f"{total(own, 'tensor_us'):.1f}",
            )
        )
    text = (
        "## A step of a layer\n\nAfter the @ the batch. MB moved are those between the "
        "multiprocessors and L2 if programs\nshared no L1."
    )
    return f"{text}\n\n{markdown(head, cells)}\n"


def _epoch(rows: Sequence[dict[str, str]], launches: dict[tuple[str, str], str]) -> str:
    """The floor of an unsupervised epoch of the CIFAR-10 net."""
    head = ("precision", "kernels, s", f"launches at {LAUNCH_US:g} µs, s", "together, s")
    cells = []
    layers = [
        row for row in rows if row["layer"].startswith("cifar10-") and row["layer"].endswith("@10")
    ]
    for (precision,), own in grouped(layers, "precision"):
        kernels = STEPS * total(own, "floor_us") / 1e6
        number = sum(int(launches.get(k, 0)) for k in {(r["layer"], precision) for r in own})
        launching = STEPS * number * LAUNCH_US / 1e6
        both = f"{kernels + launching:.2f}"
        cells.append((precision, f"{kernels:.2f}", f"{launching:.2f}", both))
    text = (
        "## The floor of an epoch\n\n"
        f"One epoch of CIFAR-10 is {STEPS} steps of three layers in batches of 10. The\n"
        "table has the sum of the floors of their kernels, computed as above. Beside it stands\n"
        f"the cost of the launches if none were hidden, at an assumed {LAUNCH_US:g} µs each. A\n"
        "CUDA graph hides most of it. Batch norm, activations, pooling and images are not counted."
    )
    return f"{text}\n\n{markdown(head, cells)}\n"


def _launches(rows: Sequence[dict[str, str]]) -> str:
    """Every counted launch."""
    units = ("tensor", "hbm", "issue", "lsu", "smem")
    head = ("layer", "precision", "kernel", "counted", "tile", "floor µs", "by", "l2 µs")
    cells = []
    for row in rows:
        by = max(units, key=lambda unit: number(row, f"{unit}_us"))
        names = ("layer", "precision", "kernel", "counted", "tile", "floor_us")
        beside = (row.get(n, "") for n in ("l2_us", "library_us"))
        cells.append((*(row.get(n, "") for n in names), by, *beside))
    text = (
        "## Every launch\n\nThe library lets neighbouring multiprocessors share what they load "
        "(multicast over clusters), which\nthese kernels do not. In tf32 plasticity multiplies "
        "float16 factors, which have as many\nbits, at twice the rate. What makes y, "
        "in forward or in activity, has no counterpart there."
    )
    return f"{text}\n\n{markdown((*head, 'library µs'), cells)}\n"


def _traffic(rows: Sequence[dict[str, str]]) -> str:
    """Launches and bytes of a step."""
    names = ("layer", "precision", "call", "launches", "hbm_ratio", "bound_ratio")
    names += ("written_back_ratio",)
    head = (*names[:4], "HBM / least", "bound / least", "with scratch written back / least")
    text = (
        "## Launches and bytes\n\nOf a layer's step and of a block's, activation and pooling "
        "included. The least is x, u, the\npooled map, the weights and yx once, where a call "
        "writes them. The bound is the least that these\nlaunches can move, in whatever order "
        "their programs run. What one launch leaves to a later one,\nand the 50 MB of the L2 do "
        "not hold, crosses to HBM and back. A winner is known when all neurons of\na position are, "
        "and a step when the largest change of all weights is: u, yx and W wait for that."
    )
    return f"{text}\n\n{markdown(head, [[row[n] for n in names] for row in rows])}\n"


def _tilings(rows: Sequence[dict[str, str]]) -> str:
    """Tilings side by side."""
    names = ("layer", "precision", "kernel", "tile", "warps", "taken", "spills", "programs")
    times = ("bound_us", "floor_us", "l2_us", "issue_us")
    head = (*names, *(f"{t.removesuffix('_us')} µs" for t in times))
    text = (
        "## Tilings\n\nThe bound is the floor where multiprocessors without a program do not help "
        "(see\n`benchmarks.gpu.tilings`); what was measured is above."
    )
    return f"{text}\n\n{markdown(head, [[row[n] for n in (*names, *times)] for row in rows])}\n"


def _budget(rows: Sequence[dict[str, str]]) -> str:
    """What the machine code takes, over all layers and precisions."""
    head = ("kernel", "target", "registers", "spills", "shared KiB", "occupancy %", "matrix units")
    cells = []
    for (kernel, target), own in grouped(rows, "kernel", "target"):
        registers = [number(row, "registers") for row in own]
        occupancy = [number(row, "occupancy") for row in own]
        cells.append(
            (
                kernel,
                target,
                f"{min(registers):.0f}–{max(registers):.0f}",
                f"{max(number(row, 'spills') for row in own):.0f}",
                f"{max(number(row, 'shared') for row in own) / 1024:.0f}",
                f"{min(occupancy):.0f}–{max(occupancy):.0f}",
                ", ".join(sorted({row["matrix"] for row in own} - {""})),
            )
        )
    text = (
        "## The machine code\n\nOver all layers and precisions of the table, to which the tests "
        "hold the kernels:\nthe largest spills (bytes) and shared memory, the range of registers a "
        "thread and occupancy."
    )
    return f"{text}\n\n{markdown(head, cells)}\n"


def grouped(
    rows: Iterable[dict[str, str]], *names: str
) -> Iterator[tuple[tuple[str, ...], list[dict[str, str]]]]:
    """Rows that agree in these columns, in the order in which they come first."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from found.items()


def number(row: dict[str, str], name: str) -> float:
    """A cell as a number; 0 if it is empty or the table has no such column."""
    return float(row.get(name) or 0)


def total(rows: Iterable[dict[str, str]], name: str) -> float:
    return sum(number(row, name) for row in rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def main() -> None:
    write_text(PAGE, page(*map(read, TABLES)))


if __name__ == "__main__":
    main()
