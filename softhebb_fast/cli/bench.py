"""``softhebb-fast bench``: check the providers of some cases, time them, report and compare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from softhebb_fast.bench import machine, plot, rows, runner, scaling
from softhebb_fast.bench.cases import QUICK, STANDARD, Case, select
from softhebb_fast.bench.provider import Provider
from softhebb_fast.bench.providers import choose
from softhebb_fast.bench.rows import Row
from softhebb_fast.bench.table import compare, describe, table
from softhebb_fast.bench.worker import Plan
from softhebb_fast.cli import header
from softhebb_fast.cli.process import default_device
from softhebb_fast.files import writable_folder
from softhebb_fast.plots import save
from softhebb_fast.training.run_folder import usable_device

FOLDER = Path("runs/bench")
NOISY_SPREAD = 0.2
POSITIVE = ("rounds", "seconds", "longest")


def command(options: argparse.Namespace) -> int:
    """Run the command; returns 0, or 1 if a provider failed the gate or became too slow, or nothing
    was timed, or a provider that was asked for could not be.

    Raises ValueError for options that do not fit.
    """
    cases = select(options.cases or (QUICK if options.quick else STANDARD))
    names = None if options.providers is None else options.providers.split(",")
    providers = choose(names)
    if options.list:
        print(listing(select(options.cases or ["*"]), providers))
        return 0
    if options.fail_above is not None and options.compare is None:
        raise ValueError("fail_above needs older results to compare with: --compare CSV")
    old = None if options.compare is None else rows.read(options.compare)
    plan = _plan(options)
    csv, picture = options.csv, options.plot
    if options.quick:
        csv, picture = csv or FOLDER / "quick.csv", picture or FOLDER / "quick.png"
    kept = rows.read(csv) if csv and csv.exists() and not options.quick else []
    for option, path in (("csv", csv), ("plot", picture)):
        if path is not None:
            writable_folder(path.parent, option)
    _warn_if_busy()
    print(f"{machine.machine(plan.device)}; device {plan.device}, threads {plan.threads}")
    print(header.versions(), flush=True)
    found: list[Row] = []
    wrong = missed = 0
    for together in runner.by_turns(cases):
        new, failures = runner.run(together, providers, plan, _note)
        if new:
            print(table(new), flush=True)
        for failure in failures:
            wrong += failure.wrong
            missed += names is not None
            if failure.wrong or names is not None:
                said = "failed the gate and is not reported" if failure.wrong else "left out"
                print(f"{failure.case}: {failure.provider} {said}: {failure.reason}")
        found += new
        if csv is not None and new:
            rows.write(csv, rows.merged(kept, found))
    _report_noise(found)
    if picture is not None and found:
        save(_picture(found), picture)
    written = [str(path) for path in (csv, picture) if path is not None and found]
    if written:
        print("written: " + ", ".join(written))
    if not found:
        print("nothing was timed")
    slower = 0 if old is None else _compare(found, old, options.fail_above)
    return int(wrong > 0 or missed > 0 or slower > 0 or not found)


def listing(cases: Sequence[Case], providers: Sequence[Provider]) -> str:
    """Cases with their size, and providers with what they are."""
    lines = ["providers:", *(f"  {p.name:18} {p.text}" for p in providers), "cases:"]
    for case in cases:
        size = f"{case.flops / 1e9:9.3g} GFLOP  {case.bytes / 2**30:7.2f} GiB at most"
        lines.append(f"  {case.name:28} {case.kind:6} {size}")
    return "\n".join(lines)


def _picture(found: list[Row]) -> Figure:
    if all(row.network == scaling.FAMILY for row in found):
        print(scaling.table(found))
        return scaling.plot(found)
    return plot.medians(found)


def _plan(options: argparse.Namespace) -> Plan:
    device = options.device or default_device()
    usable_device(device)
    threads = machine.cores() if options.threads is None else options.threads
    for name, value in (("threads", threads), *((n, getattr(options, n)) for n in POSITIVE)):
        if not value > 0:
            raise ValueError(f"{name} must be positive; got {value}")
    rounds, seconds = options.rounds, options.seconds
    if options.quick:
        rounds, seconds = min(rounds, 7), min(seconds, 10.0)
    return Plan(device, threads, rounds, seconds, options.longest)


def _compare(found: list[Row], old: list[Row], most: float | None) -> int:
    """Say what changed; how many rows became slower than allowed."""
    changes = compare(found, old)
    print(describe(changes) if changes else "the older results have none of these cases")
    return 0 if most is None else sum(c.worse and c.ratio > most for c in changes)


def _warn_if_busy() -> None:
    busy = machine.busy()
    if busy is not None and busy > 0.5:
        _note(f"this machine is not quiet: {busy:.1f} processes ran in the last minute")


def _report_noise(found: list[Row]) -> None:
    noisy = [row for row in found if runner.spread(row) > NOISY_SPREAD]
    if noisy:
        worst = max(noisy, key=runner.spread)
        print(
            f"{len(noisy)} of {len(found)} medians are noisy: their quantiles are more than "
            f"{100 * NOISY_SPREAD:.0f} % apart, {100 * runner.spread(worst):.0f} % for "
            f"{worst.provider} on {worst.case}. Is the machine quiet?"
        )


def _note(text: str) -> None:
    print(text, file=sys.stderr)
