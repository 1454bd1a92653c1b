"""Time one unsupervised training step on the CPU: published, tuned eager, compiled, native.

    python -m benchmarks.cpu_step --threads 2 --csv benchmarks/results/cpu_step.csv

Variants run interleaved in one process; a row gives the median and the 20 % and 80 % quantiles.
No time is reported unless the native steps first agree with the published algorithm.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import datetime
import multiprocessing
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.baselines import NATIVE, STEPS, Layer, Net, gate, products

NETS: dict[str, tuple[tuple[int, ...], tuple[Layer, ...]]] = {
    "cifar10": (
        (3, 32, 32),
        (
            Layer((96, 3, 5, 5), 2, 1.0, 0.08, 0.7, "max", 4, 2, 1),
            Layer((384, 96, 3, 3), 1, 0.65, 0.005, 1.4, "max", 4, 2, 1),
            Layer((1536, 384, 3, 3), 1, 0.25, 0.01, 1.0, "avg", 2, 2, 0),
        ),
    ),
    "mnist-conv128": ((1, 28, 28), (Layer((128, 1, 3, 3), 1, 1.0, 0.08, 1.0, "max", 2, 2, 0),)),
    "mnist-mlp2000": ((784,), (Layer((2000, 784), 0, 10.0, 0.045, 1.0),)),
}
CASES = (("cifar10", 10), ("cifar10", 100), ("mnist-conv128", 32), ("mnist-mlp2000", 32))
FIELDS = [
    "net",
    "batch",
    "variant",
    "threads",
    "median_ms",
    "q20_ms",
    "q80_ms",
    "repeats",
    "over_native",
    "commit",
    "date",
    "torch",
    "cpu",
    "machine",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--cases", nargs="*", default=[f"{net}:{batch}" for net, batch in CASES])
    parser.add_argument("--skip", nargs="*", default=[], help="variants to leave out")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for case in options.cases:
        name, batch = case.split(":")
        rows += run(name, int(batch), options)
    if options.csv:
        write(options.csv, rows)


def run(name: str, batch: int, options: argparse.Namespace) -> list[dict]:
    shape, layers = NETS[name]
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    for variant in NATIVE:
        gate(variant, layers, x)
    variants: dict[str, Callable[[], object]] = {}
    for variant, step in STEPS.items():
        if variant not in options.skip:
            variants[variant] = step(Net(layers), x)
    variants |= products(layers, batch)
    grown, extra = extra_memory(name, batch)
    print(f"{name} batch {batch}: the native step takes {grown} MiB, {extra} beyond x, u, yx and W")
    times = interleaved(variants, options.repeats)
    native = times["native"][1]
    about = facts()
    rows = []
    for variant, (low, median, high) in times.items():
        print(f"  {variant:20} {median:9.2f} ms  [{low:.2f}, {high:.2f}]  {median / native:6.2f}x")
        values = (name, batch, variant, options.threads, *(f"{t:.3f}" for t in (median, low, high)))
        row = (*values, options.repeats, f"{median / native:.3f}", *about)
        rows.append(dict(zip(FIELDS, row, strict=True)))
    return rows


def interleaved(variants: dict[str, Callable], repeats: int) -> dict[str, tuple[float, ...]]:
    times = {name: [] for name in variants}
    for turn in range(repeats + 2):
        for name, step in variants.items():
            torch.set_flush_denormal(name != "published" and name not in NATIVE)
            begin = time.perf_counter()
            step()
            if turn >= 2:
                times[name].append((time.perf_counter() - begin) * 1e3)
    torch.set_flush_denormal(False)
    quantiles = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    return {
        name: tuple(torch.tensor(t, dtype=torch.float64).quantile(quantiles).tolist())
        for name, t in times.items()
    }


def extra_memory(name: str, batch: int) -> tuple[int, int]:
    """MiB by which a fresh process grows at most in its first native step, x and weights made
    before, and how many of them are beyond the layers' inputs and outputs and yx."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as fresh:
        return fresh.submit(first_step_growth, name, batch).result()


def first_step_growth(name: str, batch: int) -> tuple[int, int]:
    torch.randn(256, 256) @ torch.randn(256, 256)  # BLAS comes with memory of its own
    shape, layers = NETS[name]
    x, net = torch.randn(batch, *shape), Net(layers)
    before = peak_memory()
    outputs = STEPS["native"](net, x)()
    grown = peak_memory() - before
    # the pooled maps stand for u, all of them kept by the step; of yx and of the normalised inputs
    # only one lives at a time
    inputs = [] if layers[0].is_linear else [x, *outputs[:-1]]
    kept = sum(t.nbytes for t in outputs) + max((t.nbytes for t in inputs), default=0)
    kept += max(weight.nbytes for weight in net.weights)
    return grown >> 10, (grown - (kept >> 10)) >> 10


def peak_memory() -> int:
    """KiB; getrusage would count the process that this one was forked from."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def facts() -> tuple[str, ...]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    capability = torch.backends.cpu.get_cpu_capability()
    return commit, date, torch.__version__, cpu, f"{platform.system()} {capability}"


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


if __name__ == "__main__":
    main()
