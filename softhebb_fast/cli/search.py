"""``softhebb-fast search``: look for layers and starts that learn well."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softhebb_fast.backends import BACKENDS
from softhebb_fast.cli.progress import stops_on_interrupt
from softhebb_fast.precision import PRECISIONS
from softhebb_fast.search.space import SPACES, get_space
from softhebb_fast.search.study import BEST, TABLE, Search, best, search
from softhebb_fast.search.trial import Budget, Proxies
from softhebb_fast.training.trainer import Trainer

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    space = get_space(options.space).narrowed(dict(options.set or []), options.neuron_factor)
    run = {name: getattr(options, name) for name in ("seed", "backend", "precision")}
    what = Search(
        space,
        options.dataset,
        Budget(options.images, options.validation, options.probe_epochs),
        Proxies(options.distinct, options.entropy, options.norm_error),
        run,
    )
    folder = options.out or Path("runs") / "search" / f"{space.name}-{options.dataset}"

    def stoppable(trainer: Trainer) -> None:
        with stops_on_interrupt(trainer):
            trainer.run()

    try:
        study = search(what, folder, options.trials, root=options.data, run=stoppable, said=_say)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    _print_table(study, folder, options.dataset)
    return 0


def add_command(command_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser, by the function that makes a command's parser."""
    budget, proxies = Budget(), Proxies()
    sub = command_parser("search", command, "look for layers and starts that learn well")
    sub.add_argument("space", metavar="SPACE", help=", ".join(SPACES))
    sub.add_argument("--dataset", default="mnist", help="default mnist")
    sub.add_argument("--data", metavar="ROOT", help="folder of the data sets")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the study")
    sub.add_argument("--trials", type=int, default=50, metavar="N", help="in all; default 50")
    sub.add_argument("--neuron-factor", type=float, default=1.0, help="scales every layer")
    sub.add_argument(
        "--set",
        action="append",
        type=_setting,
        metavar="NAME=VALUES",
        help="narrow the space: kernel=3,5 or lr=0.01,0.1; may be repeated",
    )
    for name, default, text in (
        ("images", budget.images, "training images of a trial"),
        ("validation", budget.validation, "other training images that judge it"),
        ("probe-epochs", budget.probe_epochs, "epochs of its classifier"),
        ("distinct", proxies.distinct, "give up below so many distinct filters"),
    ):
        sub.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)
    for name, default, text in (
        ("entropy", proxies.entropy, "give up below so many bits in the wins"),
        ("norm-error", proxies.norm_error, "give up above such a |norm - 1|"),
    ):
        sub.add_argument(f"--{name}", type=float, default=default, metavar="X", help=text)
    sub.add_argument("--seed", type=int, default=0, help="of all trials' networks")
    sub.add_argument("--backend", choices=BACKENDS, default="auto")
    sub.add_argument("--precision", choices=PRECISIONS, default="ieee", help="default ieee")


def _setting(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise argparse.ArgumentTypeError(f"settings must look like kernel=3,5; got {text!r}")
    return name, values


def _say(trial: FrozenTrial) -> None:
    if trial.state.name == "COMPLETE":
        print(f"trial {trial.number}: {trial.value:.2f} %", flush=True)
    else:
        reason = trial.user_attrs.get("reason", "")
        print(f"trial {trial.number}: {trial.state.name.lower()}, {reason}", flush=True)


def _print_table(study: Any, folder: Path, dataset: str) -> None:
    ranking = best(study)
    print(f"{len(study.trials)} trials in {folder / TABLE}")
    if not ranking:
        print("none came to its end")
        return
    print("| trial | held out % | distinct | network | init |\n|---|---|---|---|---|")
    for trial in ranking:
        known = trial.user_attrs
        distinct = " ".join(map(str, known["distinct_filters"]))
        line = (trial.number, f"{trial.value:.2f}", distinct, known["network"], known["init"])
        print("| " + " | ".join(map(str, line)) + " |")
    first = ranking[0].user_attrs
    print(
        f"\nthe best, in {folder / BEST}:\nsofthebb-fast train '{first['network']}' "
        f"--dataset {dataset} --init '{first['init']}'"
    )
