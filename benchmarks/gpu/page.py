"""The page about the GPU kernels, written from their committed tables.

python -m benchmarks.gpu.page            # write docs/gpu.md again
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu import page_measured, page_predicted
from benchmarks.gpu.page_text import (
    ARCHITECTURES_TEXT,
    HEAD,
    NETWORK_TEXT,
    OVERLAPPING_TEXT,
    WAITING_TEXT,
)
from benchmarks.gpu.predicted import DAY, HEBBIAN_STEPS
from benchmarks.gpu.tables import grouped, markdown, number, read, total
from softhebb_fast.files import write_text

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "gpu.md"
COUNTERS, BUDGET = HERE / "counters.csv", HERE / "budget.csv"
TRAFFIC, TILINGS, PREDICTED = (HERE / f"{name}.csv" for name in ("traffic", "tilings", "predicted"))
MEASURED = HERE.parent / "results" / "gpu_measured.csv"
TABLES = (COUNTERS, BUDGET, TRAFFIC, TILINGS, MEASURED)
SECTOR = 32  # bytes
LAUNCH_US = 2.5  # assumed for a launch that nothing hides


def page(
    counters: Sequence[dict[str, str]],
    budget: Sequence[dict[str, str]],
    traffic: Sequence[dict[str, str]] = (),
    tilings: Sequence[dict[str, str]] = (),
    swept: Sequence[dict[str, str]] = (),
    measured: Sequence[str] = (),
) -> str:
    """The page as Markdown; ``measured`` are the sections about a day on a GPU
    and what follows from it."""
    launches = {(r["layer"], r["precision"]): r["launches"] for r in traffic if r["call"] == "step"}
    return "\n".join(
        (
            HEAD,
            *measured,
            page_measured.sweep(swept, counters),
            WAITING_TEXT,
            OVERLAPPING_TEXT,
            ARCHITECTURES_TEXT,
            NETWORK_TEXT,
            _steps(counters, launches),
            _epoch(counters, launches),
            _launches(counters),
            _traffic(traffic),
            _tilings(tilings),
            _budget(budget),
        )
    )


def committed() -> str:
    """The page of the committed tables and of the kernels as they are."""
    from benchmarks.gpu import ran

    day = [read(DAY / f"{name}.csv") for name in ("steps", "run", "phases", "stress")]
    seeds = DAY / "seeds.csv"  # of no day before there was this part
    day.append(read(seeds) if seeds.exists() else [])
    digests = {name: ran.digest(kernel) for name, kernel in ran.all_kernels().items()}
    measured = (
        page_measured.ran(ran.table(read(ran.TABLE), digests)),
        page_measured.day(*day),
        page_predicted.section(read(PREDICTED), day[0]),
    )
    return page(*map(read, TABLES), measured)


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
        kernels = HEBBIAN_STEPS * total(own, "floor_us") / 1e6
        number = sum(int(launches.get(k, 0)) for k in {(r["layer"], precision) for r in own})
        launching = HEBBIAN_STEPS * number * LAUNCH_US / 1e6
        both = f"{kernels + launching:.2f}"
        cells.append((precision, f"{kernels:.2f}", f"{launching:.2f}", both))
    text = (
        "## The floor of an epoch\n\n"
        f"One epoch of CIFAR-10 is {HEBBIAN_STEPS} steps of three layers in batches of 10. The\n"
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


def main() -> None:
    write_text(PAGE, committed())


if __name__ == "__main__":
    main()
