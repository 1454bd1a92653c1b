"""Where a GPU's time goes in a CIFAR-10 run: the kernels of every phase, a step of each.

    python -m benchmarks.gpu.phases --csv phases.csv
    python -m benchmarks.gpu.phases --device cpu           # rehearses with the native kernels

Steps as the trainer makes them, replayed from graphs where it does so, on random images. ``us`` is
the time of a step by events around many; under it stand its kernels by the profiler, their launches
and microseconds a step. What the kernels leave of the step is gaps, or the host.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from softhebb_fast.bench.cases import Case, select
from softhebb_fast.bench.inputs import inputs
from softhebb_fast.bench.provider import Provider
from softhebb_fast.bench.providers import choose
from softhebb_fast.bench.timing import sample
from softhebb_fast.files import write_csv

FIELDS = ("phase", "provider", "steps", "us", "kernel", "launches", "kernel_us")
WARM_UP = 5
STEPS = 100
PROFILED = 20
SHOWN = 0.5  # microseconds a step


def rows(case: Case, provider: Provider, device: torch.device) -> Iterator[dict[str, object]]:
    call = _call(case, provider, device)
    cuda = device.type == "cuda"
    steps = 1 if not cuda else STEPS if case.kind in ("learn", "classify") else 10
    us = 1e6 * sample(call, steps, device)
    step = {"phase": case.name, "provider": provider.name, "steps": case.own_calls or case.calls}
    yield step | {"us": f"{us:.1f}"}
    profiled = PROFILED if cuda else 1
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
        for _ in range(profiled):
            call()
        if cuda:
            torch.cuda.synchronize()
    taken: dict[str, list[float]] = defaultdict(list)
    for event in found.events():
        if event.device_type.name == device.type.upper():
            taken[event.name].append(event.time_range.elapsed_us())
    for name, times in sorted(taken.items(), key=lambda item: -sum(item[1])):
        if sum(times) / profiled >= SHOWN:
            figures = {"launches": len(times) / profiled, "kernel_us": sum(times) / profiled}
            yield step | {"kernel": name[:90]} | {k: f"{v:.2f}" for k, v in figures.items()}


def _call(case: Case, provider: Provider, device: torch.device) -> Callable[[], object]:
    provider.set_precision()
    torch.manual_seed(0)
    call = provider.make(case, inputs(case, device, provider.layout, provider.dtype))
    for _ in range(WARM_UP if device.type == "cuda" else 1):
        call()
    return call


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["cifar10/run/*"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--provider", help="default: triton-tf32, on the CPU cpp")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    (provider,) = choose([options.provider or ("triton-tf32" if device.type == "cuda" else "cpp")])
    found = []
    for case in select(options.cases):
        with torch.set_grad_enabled(case.kind not in ("layer", "step")):
            try:
                for row in rows(case, provider, device):
                    found.append(row)
                    print(*row.values(), flush=True)
            except RuntimeError as error:
                print(f"{case.name}: {error}", flush=True)
        if options.csv:
            write_csv(options.csv, FIELDS, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
