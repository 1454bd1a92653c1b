"""The parts of ``benchmarks.gpu.day``, the most telling first. Needs nothing but Python itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

FOUND = 99  # what the sanitizer is told to return where it finds something
CHANGED = "published_net or wait_for or same_work or exact_ties"  # first, of all operators' tests
SMALL = "test_steps_and_blocks and ieee and soft_anti and (colour or channels_last)"
STEPS = (
    "triton-graph-tf32",
    "library-graph-tf32",
    "triton-graph-bf16",
    "library-graph-bf16",
    "triton-graph",
    "triton-graph-bf16x6",
    "library-graph",
    "triton-tf32",
)
OVERLAPPED = tuple(name for name in STEPS if name.startswith("triton-graph"))
LAYERS = ("cifar10-2@*", "cifar10-3@*", "cifar10-1@100")


@dataclass(frozen=True)
class Part:
    """A command of the day, and the seconds it may take.

    ``wrong``: the exit statuses that mean that something is wrong; any other is a note. ``needs``:
    a tool that must be on the PATH. ``table``: the CSV file that it writes.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    wrong: tuple[int | None, ...] = ()
    needs: str | None = None
    table: str | None = None


def parts(python: str, out: Path, data: Path | None, xdist: bool) -> list[Part]:
    """The day, the most telling first."""
    module = (python, "-m")
    side_by_side = ("-n", str(min(16, os.cpu_count() or 1))) if xdist else ()
    tests = (*module, "pytest", "tests/gpu", "-p", "no:cacheprovider", *side_by_side)
    widest = "gpu" if xdist else "gpu and not slow"  # each case is a kernel to compile
    found = [
        Part("device", (*module, "softhebb_fast", "info"), 60, wrong=(1, None)),
        Part(
            "stress",
            (*module, "benchmarks.gpu.stress", "--csv", str(out / "stress.csv")),
            150,
            wrong=(1, None),
            table="stress.csv",
        ),
        Part("changed tests", (*tests, "-m", widest, "-k", CHANGED), 120, wrong=(1, None)),
        Part("steps", steps(python, STEPS, out / "steps.csv"), 120, (1,), table="steps.csv"),
        Part(
            "phases",
            (*module, "benchmarks.gpu.phases", "--csv", str(out / "phases.csv")),
            90,
            table="phases.csv",
        ),
        *overlapping(python, out, tests, widest),
        Part("other tests", (*tests, "-m", widest, "-k", f"not ({CHANGED})"), 150, wrong=(1, None)),
        Part("ran", (*module, "benchmarks.gpu.ran", "--csv", str(out / "ran.csv")), 60),
        *(sanitizer(python, check) for check in ("memcheck", "racecheck")),
        Part(
            "sweep",
            (
                *(*module, "benchmarks.gpu.sweep", "--layers", *LAYERS),
                *("--precisions", "tf32", "bfloat16", "bf16x6", "--out", str(out)),
            ),
            150,
            table="gpu_measured.csv",
        ),
    ]
    if data is not None:
        run = (*module, "benchmarks.gpu.run", "--data", str(data), "--csv", str(out / "run.csv"))
        found.insert(3, Part("run", run, 150, table="run.csv"))
        seeds = (*module, "benchmarks.gpu.seeds", "--data", str(data))
        seeds = (*seeds, "--csv", str(out / "seeds.csv"))
        found.insert(5, Part("seeds", seeds, 120, table="seeds.csv"))
    return found


def steps(python: str, providers: tuple[str, ...], table: Path) -> tuple[str, ...]:
    """Whole steps, timed by turns."""
    command = (python, "-m", "softhebb_fast", "bench", "cifar10/step/b10", "cifar10/step/b100")
    chosen = ("--device", "cuda", "--providers", ",".join(providers), "--seconds", "2")
    return (*command, *chosen, "--longest", "2", "--csv", str(table))


def overlapping(python: str, out: Path, tests: tuple[str, ...], widest: str) -> list[Part]:
    """Steps whose launches begin before the one ahead ends, and whether they come to the same."""
    switch, table = ("env", "SOFTHEBB_FAST_OVERLAP=1"), "steps_overlapping.csv"
    timed = steps(python, OVERLAPPED, out / table)
    tested = (*tests, "-m", widest, "-k", CHANGED)
    return [
        Part("tests that overlap", (*switch, *tested), 90, (1, None)),
        Part("steps that overlap", (*switch, *timed), 60, table=table),
    ]


def sanitizer(python: str, check: str) -> Part:
    """Out-of-bounds accesses or races, on a few small layers."""
    tests = (python, "-m", "pytest", "tests/gpu/test_operators.py", "-m", "gpu", "-k", SMALL)
    # Every tensor an allocation of its own: what lies beyond its end belongs to nobody.
    tool = ("env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", "compute-sanitizer", "--tool", check)
    command = (*tool, "--error-exitcode", str(FOUND), *tests)
    return Part(check, command, 60, wrong=(FOUND,), needs="compute-sanitizer")


def rehearsal(part: Part) -> Part:
    """The part on the CPU, on little."""
    *front, last = part.command
    match part.name:
        case "stress" | "phases":
            command = (*part.command, "--device", "cpu")
        case "sweep":
            few = ("--layers", "cifar10-2@10", "--precisions", "tf32")
            command = (*part.command, "--device", "cpu", *few)
        case "changed tests" | "other tests" | "tests that overlap":
            command = (*front, f"({last}) and ieee and (colour or 37 or cifar-1)")
        case "steps" | "steps that overlap":
            command = tuple("cpu" if a == "cuda" else a for a in part.command)
            ours = {",".join(STEPS): "cpp,library", ",".join(OVERLAPPED): "cpp"}
            command = tuple(ours.get(a, a) for a in command)
        case "ran":
            command = part.command[:-2]
        case "run":
            few = ("--device", "cpu", "--precision", "ieee", "--", "--limit", "500")
            command = (*part.command, *few, "--probe-epochs", "1")
        case "seeds":
            few = ("--device", "cpu", "--precision", "ieee", "--seeds", "2", "--few")
            command = (*part.command, *few)
        case _:
            command = part.command
    return replace(part, command=command, seconds=600)
