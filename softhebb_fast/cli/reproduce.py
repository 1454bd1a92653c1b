"""``softhebb-fast reproduce``: make the runs of a published table or figure, and compare."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from softhebb_fast import experiments
from softhebb_fast.cli import header
from softhebb_fast.cli.errors import users_mistakes
from softhebb_fast.cli.process import default_device
from softhebb_fast.cli.progress import Bars, stops_on_interrupt
from softhebb_fast.experiments import Experiment, get_experiment, results
from softhebb_fast.experiments.claims import Evidence, claims_table
from softhebb_fast.experiments.figures import draw
from softhebb_fast.experiments.page import write_page
from softhebb_fast.experiments.reproduce import adopt, check, reproduce, results_of
from softhebb_fast.experiments.table import overview, table
from softhebb_fast.experiments.verdict import RULE
from softhebb_fast.training.config_checks import check_seed, checked_number
from softhebb_fast.training.loop import Interrupted, Loop
from softhebb_fast.training.together import learn_together
from softhebb_fast.training.trainer import Trainer

CHANGES = ("backend", "device", "limit", "cache_gib", "precision", "autocast")


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    if options.limit is not None:
        checked_number("limit", options.limit, 1)
    for seed in options.seeds:
        check_seed(seed)
    options.results = options.results or results_of(options.out, options.limit)
    if options.page is not None:
        write_page(options.page, options.results)
        print(options.page)
        return 0
    if options.name is None:
        print("\n".join(f"{e.name:10} {e.title}" for e in experiments.EXPERIMENTS.values()))
        return 0
    experiment = get_experiment(options.name)
    chosen = replace(experiment, cells=tuple(experiment.matching(*options.cells)))
    path = results.path(experiment.name, options.results)
    if options.list:
        print(overview(chosen, results.read(path)))
        return 0
    status = 0
    if options.adopt is not None:
        if options.cell is None:
            raise ValueError("--adopt takes --cell NAME as well; see --list for the names")
        made_by = dict(options.made_by or [])
        where = (options.adopt, options.results, options.data)
        row = adopt(experiment.cell(options.cell), *where, made_by)
        print(f"{options.cell}, seed {row['seed']}: {float(row['test_accuracy']):.2f} %")
    elif not options.table:
        status = _make(experiment, chosen, options)
    elif not path.is_file():
        raise FileNotFoundError(
            f"there are no results of {experiment.name} to compare: {path} does not exist. Make "
            "its runs, or name the folder of its results with --results"
        )
    if options.limit is None:
        _compare(experiment, options.results)
    elif path.is_file():
        print(f"\ntrials, which stand in no table, in {path}")
    return status


def _compare(experiment: Experiment, folder: Path) -> None:
    """Ours beside what was published, as a table and as figures."""
    path = results.path(experiment.name, folder)
    print(table(experiment, results.read(path)))
    if experiment.verdict:
        print(f"\n{RULE}")
    if experiment.claims:
        print(f"\n{claims_table(experiment.claims, Evidence.read(experiment.name, folder))}")
    written = [place for place in (path, *draw(experiment, folder)) if place.is_file()]
    print("\nresults in " + ", ".join(map(str, written)) if written else "\nno results yet")


def _make(experiment: Experiment, chosen: Experiment, options: argparse.Namespace) -> int:
    """Make the runs of the chosen cells; 1 if any could not be made."""
    options.device = options.device or default_device()
    changes = {n: getattr(options, n) for n in CHANGES if getattr(options, n) is not None}
    bars = Bars(options.quiet)

    def run(trainer: Loop) -> None:
        print(f"{trainer.out}\n{header.of_run(trainer)}", flush=True)
        with stops_on_interrupt(trainer):
            trainer.run()

    def together(trainers: list[Trainer]) -> None:
        print(f"{trainers[0].out} and {len(trainers) - 1} more\n{header.of_run(trainers[0])}")
        with stops_on_interrupt(trainers[0]):
            learn_together(trainers)

    check(experiment, options.results)
    side_by_side = options.device.startswith("cuda") and not options.apart
    outcomes = reproduce(
        list(chosen.cells),
        options.seeds,
        options.out,
        options.results,
        root=options.data,
        reporter=bars,
        run=run,
        together=together if side_by_side else None,
        **changes,
    )
    problems, made = 0, 0
    try:
        with users_mistakes():
            for outcome in outcomes:
                problems, made = problems + (outcome.row is None), made + 1
                print(f"{outcome.cell.name}, seed {outcome.seed}: {_said(outcome)}", flush=True)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; or with the same command") from None
    finally:
        bars.end()
    if problems:
        print(f"{problems} of {made} runs were not made, for the reasons above", flush=True)
    return int(problems > 0)


def _said(outcome: Any) -> str:
    if outcome.row is None:
        return f"not run: {outcome.problem}"
    row, published = outcome.row, outcome.cell.published.get("test_accuracy")
    of = f" of {row['limit']} images at most" if row["limit"] else ""
    text = f"{float(row['test_accuracy']):.2f} %{of} in {float(row['minutes']):.1f} minutes"
    return text if published is None else f"{text}, published {published:g} %"
