"""``softhebb-fast reproduce``: make the runs of a published table or figure, and compare."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from softhebb_fast.backends import BACKENDS
from softhebb_fast.cli.progress import Bars, stops_on_interrupt
from softhebb_fast.experiments import EXPERIMENTS, Experiment, get_experiment, results
from softhebb_fast.experiments.claims import Evidence, claims_table
from softhebb_fast.experiments.figures import draw
from softhebb_fast.experiments.page import PAGE, write_page
from softhebb_fast.experiments.reproduce import adopt, check, reproduce
from softhebb_fast.experiments.table import overview, table
from softhebb_fast.experiments.verdict import RULE
from softhebb_fast.precision import PRECISIONS
from softhebb_fast.training.loop import Interrupted, Loop

RUNS = Path("runs") / "reproduce"
AUTOCAST = "train by backpropagation in bfloat16"


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    if options.page is not None:
        write_page(options.page, options.results)
        print(options.page)
        return 0
    if options.name is None:
        print("\n".join(f"{e.name:10} {e.title}" for e in EXPERIMENTS.values()))
        return 0
    experiment = get_experiment(options.name)
    path = results.path(experiment.name, options.results)
    if options.list:
        print(overview(experiment, results.read(path)))
        return 0
    if options.adopt is not None:
        if options.cell is None:
            raise ValueError("--adopt takes --cell NAME as well; see --list for the names")
        made_by = dict(options.made_by or [])
        where = (options.adopt, options.results, options.data)
        row = adopt(experiment.cell(options.cell), *where, made_by)
        print(f"{options.cell}, seed {row['seed']}: {float(row['test_accuracy']):.2f} %")
    elif not options.table:
        _make(experiment, options)
    print(table(experiment, results.read(path)))
    if experiment.verdict:
        print(f"\n{RULE}")
    if experiment.claims:
        evidence = Evidence.read(experiment.name, options.results)
        print(f"\n{claims_table(experiment.claims, evidence)}")
    figures = draw(experiment, options.results)
    print("\nresults in " + ", ".join(map(str, (path, *figures))))
    return 0


def add_command(command_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser, by the function that makes a command's parser."""
    sub = command_parser("reproduce", command, "make the runs of a published table or figure")
    sub.add_argument(
        "name", nargs="?", metavar="NAME", help=f"{', '.join(EXPERIMENTS)}; none lists them"
    )
    sub.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default 0")
    sub.add_argument("--cells", default="*", metavar="GLOB", help="only cells of such names")
    sub.add_argument("--list", action="store_true", help="show the cells and what is done")
    sub.add_argument("--table", action="store_true", help="make no runs, compare what is there")
    sub.add_argument(
        "--page",
        nargs="?",
        type=Path,
        const=PAGE,
        metavar="FILE",
        help=f"write the page of all results; default {PAGE}",
    )
    sub.add_argument("--out", type=Path, default=RUNS, metavar="DIR", help=f"default {RUNS}")
    sub.add_argument(
        "--results",
        type=Path,
        default=results.FOLDER,
        metavar="DIR",
        help=f"folder of the CSV and the figure; default {results.FOLDER}",
    )
    sub.add_argument("--data", metavar="ROOT", help="folder of the data sets")
    sub.add_argument("--backend", choices=BACKENDS, help="default auto")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    sub.add_argument("--device", default=default, help=f"default here: {default}")
    sub.add_argument("--precision", choices=PRECISIONS, help="default ieee")
    sub.add_argument("--autocast", action="store_true", default=None, help=AUTOCAST)
    sub.add_argument("--limit", type=int, metavar="N", help="so many images; kept apart")
    sub.add_argument("--cache-gib", type=float, metavar="X", help="memory for frozen features")
    sub.add_argument("--adopt", type=Path, metavar="FOLDER", help="a finished run to take over")
    sub.add_argument("--cell", metavar="CELL", help="the cell that --adopt stands for")
    sub.add_argument(
        "--made-by",
        action="append",
        type=_made_by,
        metavar="KEY=VALUE",
        help="commit, torch or threads of a run to take over that has not kept them",
    )
    sub.add_argument("--quiet", action="store_true", help="no progress bars")


def _made_by(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if key not in ("commit", "torch", "threads") or not value:
        raise argparse.ArgumentTypeError(f"what made a run is like threads=2; got {text!r}")
    return key, value


def _make(experiment: Experiment, options: argparse.Namespace) -> None:
    names = ("backend", "device", "limit", "cache_gib", "precision", "autocast")
    changes = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
    bars = Bars(options.quiet)

    def run(trainer: Loop) -> None:
        print(trainer.out, flush=True)
        with stops_on_interrupt(trainer):
            trainer.run()

    check(experiment, options.results)
    outcomes = reproduce(
        experiment.matching(options.cells),
        options.seeds,
        options.out,
        options.results,
        root=options.data,
        reporter=bars,
        run=run,
        **changes,
    )
    try:
        for outcome in outcomes:
            print(f"{outcome.cell.name}, seed {outcome.seed}: {_said(outcome)}", flush=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    except Interrupted as stop:
        raise Interrupted(f"{stop}; or with the same command") from None
    finally:
        bars.end()


def _said(outcome: Any) -> str:
    if outcome.row is None:
        return f"not run: {outcome.problem}"
    row, published = outcome.row, outcome.cell.published.get("test_accuracy")
    text = f"{float(row['test_accuracy']):.2f} % in {float(row['minutes']):.1f} minutes"
    return text if published is None else f"{text}, published {published:g} %"
