"""``softhebb-fast search``: look for layers and starts that learn well."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softhebb_fast.cli import header
from softhebb_fast.cli.errors import users_mistakes
from softhebb_fast.cli.progress import stops_on_interrupt
from softhebb_fast.data.catalog import canonical_name
from softhebb_fast.search.space import get_space, run_options
from softhebb_fast.search.study import BEST, TABLE, Search, best, search
from softhebb_fast.search.trial import Budget, Proxies
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.trainer import Trainer

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    if options.trials < 1:
        raise ValueError(f"trials must be at least 1; got {options.trials}")
    changes: dict[str, str] = {}
    for name, values in options.set or []:
        if name in changes:
            raise ValueError(f"set must name each setting once; got {name!r} twice")
        changes[name] = values
    space = get_space(options.space).narrowed(changes, options.neuron_factor)
    options.dataset = canonical_name(options.dataset)
    if "probe_epochs" in options and (solved := space.run.get("classifier")):
        raise ValueError(
            f"probe-epochs is for the published classifier; {space.name} is judged by {solved}; "
            f"got {options.probe_epochs}"
        )
    run = {name: getattr(options, name) for name in ("seed", "backend", "precision")}
    what = Search(
        space,
        options.dataset,
        _given(Budget, options),
        _given(Proxies, options),
        run,
    )
    name = f"{space.name}-{Path(options.dataset).name}"
    folder = options.out or Path("runs") / "search" / name
    print(_header(what, options), flush=True)

    def stoppable(trainer: Trainer) -> None:
        with stops_on_interrupt(trainer):
            trainer.run()

    try:
        with users_mistakes():
            given = {"root": options.data, "run": stoppable, "said": _say}
            study = search(what, folder, options.trials, **given)
    except Interrupted:
        raise Interrupted("stopped; the search goes on with the same command") from None
    _print_table(study, folder, what)
    return 0


def _given(kind: type, options: argparse.Namespace) -> Any:
    """A ``kind`` of what the options give, its own defaults else."""
    known = vars(options)
    return kind(**{f.name: known[f.name] for f in fields(kind) if f.name in known})


def _header(what: Search, options: argparse.Namespace) -> str:
    budget, config = what.budget, RunConfig("DemoMNIST", what.dataset, **what.run)
    images = f"{budget.images} training images to learn from, {budget.validation} to be judged by"
    return "\n".join(
        (
            f"{what.space.name}: {options.trials} trials in all",
            f"data set: {what.dataset}{header.place(what.dataset, options.data)}, {images}",
            f"protocol: Hebbian layers as published, classifier {_classifier(what)}",
            f"computed: {header.computed(config)}",
            header.versions(),
        )
    )


def _classifier(what: Search) -> str:
    name = what.space.run.get("classifier", "published")
    return f"{what.budget.probe_epochs} epochs" if name == "published" else name


def _say(trial: FrozenTrial) -> None:
    if trial.state.name == "COMPLETE":
        print(f"trial {trial.number}: {trial.value:.2f} %", flush=True)
    else:
        reason = trial.user_attrs.get("reason", "")
        print(f"trial {trial.number}: {trial.state.name.lower()}, {reason}", flush=True)


def _print_table(study: Any, folder: Path, what: Search) -> None:
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
        f"--dataset {what.dataset} --init '{first['init']}'{run_options(what.space.run)}"
    )
