"""``softhebb-fast bench``: check the providers of some cases, time them, report and compare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from softhebb_fast.bench import machine, plot, rows, runner, scaling
from softhebb_fast.bench.cases import QUICK, STANDARD, Case, select
from softhebb_fast.bench.provider import Provider
from softhebb_fast.bench.providers import PROVIDERS, choose
from softhebb_fast.bench.rows import Row
from softhebb_fast.bench.table import compare, describe, table
from softhebb_fast.bench.worker import Plan
from softhebb_fast.plots import save
from softhebb_fast.training.run_folder import usable_device

FOLDER = Path("runs/bench")
NOISY_SPREAD = 0.2


def add_command(command_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser, by the function that makes a command's parser."""
    text = "time every backend here against others, after a check that it is right"
    add_options(command_parser("bench", command, text))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASES",
        help="patterns such as 'cifar10/layer?/b10'; by default those of the committed results",
    )
    parser.add_argument("--list", action="store_true", help="name the cases and the providers")
    parser.add_argument("--quick", action="store_true", help="a few cases, some minutes at most")
    parser.add_argument(
        "--providers", metavar="NAMES", help=f"with commas between: {','.join(PROVIDERS)}"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="default: all cores")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each provider at most")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="to spend on the samples of a case, about"
    )
    parser.add_argument(
        "--longest", type=float, default=20.0, help="leave out what takes more seconds a call"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="results; rows of the same key are replaced"
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw them")
    parser.add_argument("--compare", type=Path, metavar="CSV", help="older results")
    parser.add_argument(
        "--fail-above",
        type=float,
        metavar="R",
        help="with --compare: fail if a provider is slower by more than R times, beyond noise",
    )


def command(options: argparse.Namespace) -> int:
    """Run the command; returns 0, or 1 if a provider failed the gate or became too slow.

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
    _warn_if_busy()
    found: list[Row] = []
    wrong = 0
    for case in cases:
        new, failures = runner.run(case, providers, plan, _note)
        if new:
            print(table(new), flush=True)
        for failure in failures:
            wrong += failure.wrong
            if failure.wrong or names is not None:
                said = "failed the gate and is not reported" if failure.wrong else "left out"
                print(f"{failure.case}: {failure.provider} {said}: {failure.reason}")
        found += new
        if csv is not None and new:
            rows.write(csv, rows.merged(kept, found))
    _report_noise(found)
    if picture is not None and found:
        picture.parent.mkdir(parents=True, exist_ok=True)
        save(_picture(found), picture)
    written = [str(path) for path in (csv, picture) if path is not None and found]
    if written:
        print("written: " + ", ".join(written))
    slower = 0 if old is None else _compare(found, old, options.fail_above)
    return int(wrong > 0 or slower > 0)


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
    usable_device(options.device)
    if options.threads < 1 or options.rounds < 1 or not options.seconds > 0:
        raise ValueError(
            "threads, rounds and seconds must be positive; got "
            f"{options.threads}, {options.rounds} and {options.seconds}"
        )
    rounds, seconds = options.rounds, options.seconds
    if options.quick:
        rounds, seconds = min(rounds, 7), min(seconds, 10.0)
    return Plan(options.device, options.threads, rounds, seconds, options.longest)


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
