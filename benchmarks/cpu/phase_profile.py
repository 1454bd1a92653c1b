"""Where the time of a CIFAR-10 run goes: the phases, and the operators within each.

    python -m benchmarks.cpu.phase_profile --csv benchmarks/results/phase_profile.csv

Steps of every phase under torch's profiler, by CPU time, multiplied by the steps of the phase.
Shares are good to a few per cent on any machine; for seconds, ``softhebb-fast bench
'cifar10/run/*'`` on a quiet one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.cpu import report
from softhebb_fast.bench.cases import Case, select
from softhebb_fast.bench.inputs import inputs
from softhebb_fast.bench.providers import PROVIDERS

SECONDS = 2.0  # of each phase
WARM_UP = 3
FIELDS = ("phase", "cpu_seconds", "share", "operator", "share_of_phase")


def prepared(case: Case) -> Callable[[], object]:
    call = PROVIDERS["cpp"].make(case, inputs(case, torch.device("cpu")))
    for _ in range(WARM_UP):
        call()
    return call


def phase_seconds(case: Case, call: Callable[[], object]) -> tuple[float, int]:
    """CPU seconds of the whole phase, and how many calls were timed."""
    begin, calls = time.process_time(), 0
    while calls < WARM_UP or time.process_time() - begin < SECONDS:
        call()
        calls += 1
    return (time.process_time() - begin) / calls * (case.own_calls or case.calls), calls


def hottest(call: Callable[[], object], calls: int) -> list[tuple[str, float]]:
    """Operators by their own share of the time, in per cent."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(calls):
            call()
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = [(event.key, 100 * event.self_cpu_time_total / total) for event in events]
    return sorted(shares, key=lambda share: -share[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    found = {}
    for case in select(["cifar10/run/*"]):
        with torch.set_grad_enabled(True):
            call = prepared(case)
            seconds, calls = phase_seconds(case, call)
            found[case.name] = seconds, hottest(call, min(calls, 20))
    total = sum(seconds for seconds, _ in found.values())
    rows = []
    for name, (seconds, shares) in found.items():
        shown = [(key, share) for key, share in shares[:5] if share >= 1]
        top = ", ".join(f"{key} {share:.0f} %" for key, share in shown)
        print(f"{name:26} {100 * seconds / total:5.1f} %  {seconds:6.0f} CPU s: {top}", flush=True)
        rows += [(name, seconds, seconds / total, key, share / 100) for key, share in shown]
    if options.csv:
        report.write(options.csv, FIELDS, rows, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
