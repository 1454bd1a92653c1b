"""What a GPU measured, as sections of the page about the kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.gpu.tables import grouped, markdown, number

RAN_TEXT = """\
## What ran on hardware

A kernel is the same as at the commit below, or it has changed since. What has changed, or never
ran, is known from the emulator, the interpreter and the compilers alone. `benchmarks.gpu.ran` tells
by the source of a kernel and of all that it calls; a test compares this table with it.
"""

DAY_TEXT = """\
## Measured on an H100

{machine}, {versions}, commit {commit}.
All times of this section are of that commit ([summary](../benchmarks/results/h100/summary.md)).

Steps are unsupervised training steps of the whole CIFAR-10 net, ours and the library's
convolutions, both replayed from CUDA graphs. A ratio below 1 means that the whole step takes less
than the library's convolutions alone.
"""

RUN_TEXT = """\
A whole CIFAR-10 run by the published protocol, from the start of the process to the test accuracy.
The first run compiled kernels; the second found them in the cache.
"""

SEEDS_TEXT = """\
Seeds of that run that learn in the same steps, beside one alone, kernels compiled before.
"""

PHASES_TEXT = """\
A step of each phase of that run, and the kernels that take most of it.
"""

STRESS_TEXT = """\
Programs of forward that wait for each other, launched from many streams and graphs at once. Other
bits are calls that gave another result than the first.
"""

SWEEP_TEXT = """\
## An earlier sweep

The same kind of card, torch 2.11.0+cu130, Triton 3.6.0, driver 580.159. Each kernel of a learning
step in the configuration that is chosen now, in microseconds by the profiler. Times are the median
of five launches with the L2 as a step leaves it. All configurations that were tried are in
[gpu_sweep.csv](../benchmarks/results/gpu_sweep.csv). A time is missing where the one chosen now was
not among them, and for forward of stl10-4, which has changed since.

The kernels have changed since this sweep:

- Forward left y to a launch of 3 to 45 µs after it. It now computes y itself, but for stl10-4. Its
  floors are with y, its times without.
- Plasticity was the product alone. It now computes D as well.
- Plasticity took two bfloat16 terms a factor in tf32 and three in tf32x3. In tf32 it now does what
  it does in bfloat16, in tf32x3 what it did in tf32. Those times are in the sweep.
- Patches of cifar10-2 and stl10-2 now take another way to the tensor cores.
- Forward takes float16 factors in tf32 where a layer has many positions.

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

NAMED = ("layer", "precision", "kernel")
LIBRARY = {
    "triton-graph-tf32": "library-graph-tf32",
    "triton-graph-bf16": "library-graph-bf16",
    "triton-graph": "library-graph",
    "triton-graph-bf16x6": "library-graph",
}
PRECISIONS = {
    "triton-graph-tf32": "tf32",
    "triton-graph-bf16": "bfloat16",
    "triton-graph": "float32",
    "triton-graph-bf16x6": "bf16x6, against float32",
}
SHARE = 0.04  # of a phase's step, from which on a kernel is named


def ran(rows: Iterable[Sequence[str]]) -> str:
    """Every kernel, and where it last ran."""
    head = ("kernel", "last ran on", "at commit", "since then")
    return f"{RAN_TEXT}\n{markdown(head, rows)}\n"


def day(
    steps: Sequence[dict[str, str]],
    run: Sequence[dict[str, str]],
    phases: Sequence[dict[str, str]],
    stress: Sequence[dict[str, str]],
    seeds: Sequence[dict[str, str]],
) -> str:
    """What ``make gpu`` brought home; of ``seeds`` maybe nothing."""
    first = steps[0]
    text = DAY_TEXT.format(
        machine=first["machine"], versions=first["versions"], commit=first["commit"]
    )
    times = {(r["case"], r["provider"]): 1e6 * float(r["median"]) for r in steps}
    cells = [
        (
            case,
            PRECISIONS[name],
            f"{us:.0f}",
            f"{times[case, LIBRARY[name]]:.0f}",
            f"{us / times[case, LIBRARY[name]]:.2f}",
        )
        for (case, name), us in times.items()
        if name in LIBRARY and (case, LIBRARY[name]) in times
    ]
    parts = [text, markdown(("step", "precision", "ours µs", "library µs", "ratio"), cells), ""]
    names = ("seed", "kernels", "accuracy", "process_s", "training_s", "phases")
    head = ("seed", "kernels", "test %", "process s", "training s", "phases, s since its start")
    parts += [RUN_TEXT, markdown(head, [[r[n] for n in names] for r in run]), ""]
    if seeds:
        names = ("seeds", "accuracy", "alone_s", "together_s", "ratio")
        head = ("seeds", "mean test %", "one alone, s", "together, s", "ratio")
        parts += [SEEDS_TEXT, markdown(head, [[r[n] for n in names] for r in seeds]), ""]
    parts += [PHASES_TEXT, _phases(phases), ""]
    names = ("situation", "streams", "tiles", "calls", "other_bits", "outcome")
    head = (*names[:4], "other bits", "outcome")
    parts += [STRESS_TEXT, markdown(head, [[r[n] for n in names] for r in stress]), ""]
    return "\n".join(parts)


def _phases(rows: Sequence[dict[str, str]]) -> str:
    cells = []
    for (phase,), own in grouped(rows, "phase"):
        whole = number(own[0], "us")
        most = [r for r in own[1:] if number(r, "kernel_us") > SHARE * whole]
        kernels = ", ".join(f"{_short(r['kernel'])} {r['kernel_us']}" for r in most[:4])
        cells.append((phase.removeprefix("cifar10/run/"), own[0]["steps"], own[0]["us"], kernels))
    return markdown(("phase", "steps", "µs a step", "kernels, µs"), cells)


def _short(kernel: str) -> str:
    """The name of a kernel without its namespaces and parameters."""
    name = kernel.removeprefix("void ").replace("(anonymous namespace)::", "")
    return name.split("<")[0].split("(")[0].split("::")[-1]


def sweep(rows: Sequence[dict[str, str]], counters: Sequence[dict[str, str]]) -> str:
    """What kernels took on a GPU, beside their floors and the library."""
    floors = {tuple(row[n] for n in NAMED): (row["floor_us"], row["l2_us"]) for row in counters}
    head = ("layer", "precision", "kernel", "tile", "warps", "stages", "µs", "floor µs", "l2 µs")
    cells, times = [], {}
    for row in rows:
        named = tuple(row[n] for n in NAMED)
        floor, l2 = floors.get(named, ("", ""))
        if row["us"] and floor:
            times.setdefault(row["kernel"], []).append(float(row["us"]) / float(floor))
        if row["kernel"] not in ("prepare", "reduce_splits", "apply"):
            names = ("kernel", "warps", "stages", "us", "mm_us", "conv_us")
            _, *rest, us, mm, conv = (row[n] for n in names)
            cells.append((*named, row["tile"], *rest, us, floor, l2, mm, conv))
    ratios = "; ".join(
        f"{kernel} {median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
        for kernel, found in times.items()
        if kernel not in ("forward", "reduce_splits", "apply")
    )
    text = SWEEP_TEXT.format(ratios=ratios)
    return f"{text}\n{markdown((*head, 'torch.mm µs', 'convolution µs'), cells)}\n"
