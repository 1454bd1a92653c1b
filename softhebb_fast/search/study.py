"""A study on disk that several processes may work on, and that goes on where it was left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softhebb_fast.files import WAIT, claim, writable_folder, write_csv, write_text
from softhebb_fast.search.space import AnySpace, init_option
from softhebb_fast.search.trial import (
    Budget,
    GivenUp,
    Judge,
    Proxies,
    run_trial,
    trial_config,
)
from softhebb_fast.training.finite import NotFinite
from softhebb_fast.training.metrics import LAYER_FIGURES
from softhebb_fast.training.trainer import Trainer

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

JOURNAL, TABLE, BEST = "journal.log", "trials.csv", "best.json"


@dataclass(frozen=True)
class Search:
    """What is searched, and at which cost.

    Attributes:
        space: what a trial may choose.
        dataset: a name that ``data.load`` takes.
        budget, proxies: what a trial may cost, and when it is given up.
        run: further fields of `RunConfig` for all trials, such as ``seed`` or ``backend``.
    """

    space: AnySpace
    dataset: str
    budget: Budget = field(default_factory=Budget)
    proxies: Proxies = field(default_factory=Proxies)
    run: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))


def search(
    what: Search,
    folder: str | Path,
    trials: int,
    *,
    root: str | None = None,
    sampler_seed: int | None = None,
    run: Callable[[Trainer], Any] = Trainer.run,
    said: Callable[[FrozenTrial], Any] = lambda trial: None,
) -> Study:
    """Add trials to the study in ``folder`` until ``trials`` of them have come to an end.

    Several processes may do so at once; together they may end up with one trial too many each.

    Args:
        sampler_seed: makes a study of one process repeatable.
        run: brings a trial's trainer to its end.
        said: hears of every trial that this process has ended.

    Raises:
        ValueError: optuna is not installed; a folder that cannot be written, that holds a
            search for something else, or whose journal is damaged.
    """
    folder = Path(folder)
    optuna = _optuna()
    study = open_study(what, folder, sampler_seed)
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)

    def objective(trial: Trial) -> float:
        network, init = what.space.suggest(trial)
        trial.set_user_attr("network", network)
        trial.set_user_attr("init", init_option(init))
        more = {**what.space.run, **what.run}
        config = trial_config(network, init, what.dataset, what.budget, **more)

        def heard(epoch: int, accuracy: float) -> bool:
            trial.report(accuracy, epoch)
            return epoch < what.budget.probe_epochs and trial.should_prune()

        judge = Judge(what.proxies, config.unsup_epochs, heard)
        began = time.monotonic()
        try:
            return run_trial(config, what.budget, judge, root, run)
        except (GivenUp, NotFinite) as reason:
            trial.set_user_attr("reason", str(reason))
            raise optuna.TrialPruned(str(reason)) from None
        finally:
            for name in LAYER_FIGURES:
                trial.set_user_attr(name, judge.figures_of(name))
            trial.set_user_attr("minutes", round((time.monotonic() - began) / 60, 3))

    def after(study: Study, trial: FrozenTrial) -> None:
        said(trial)
        if len(study.get_trials(deepcopy=False, states=ended)) >= trials:
            study.stop()

    if len(study.get_trials(deepcopy=False, states=ended)) < trials:
        with _first_error():
            study.optimize(objective, callbacks=[after])
    write_results(study, what, folder)
    return study


@contextmanager
def _first_error() -> Iterator[None]:
    """Of several errors the first: optuna makes others of one that it cannot tell the journal."""
    try:
        yield
    except Exception as error:
        first = error
        while not first.__suppress_context__ and isinstance(first.__context__, Exception):
            first = first.__context__
        raise first from None


def open_study(what: Search, folder: str | Path, sampler_seed: int | None = None) -> Study:
    """The study in ``folder``, a new one if there is none. Raises as `search` does."""
    folder = Path(folder)
    optuna = _optuna()
    release = claim(writable_folder(folder), WAIT)
    try:
        return _opened(optuna, what, folder, sampler_seed)
    finally:
        release()


def _opened(optuna: Any, what: Search, folder: Path, sampler_seed: int | None) -> Study:
    from softhebb_fast.search.journal import Journal

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what stops it is raised
    storage = optuna.storages.JournalStorage(Journal(folder / JOURNAL))
    study = optuna.create_study(
        study_name="search",
        storage=storage,
        sampler=optuna.samplers.TPESampler(seed=sampler_seed, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        direction="maximize",
        load_if_exists=True,
    )
    settings = what.settings()
    if (there := study.user_attrs.get("settings", settings)) != settings:
        different = ", ".join(key for key in settings if there.get(key) != settings[key])
        raise ValueError(
            f"{str(folder)!r} holds a search with another {different}; use another folder, or the "
            "same options"
        )
    study.set_user_attr("settings", settings)
    return study


def write_results(study: Study, what: Search, folder: str | Path) -> None:
    """Write ``trials.csv``, and ``best.json`` if a trial came to its end, atomically.

    Raises InUse if another process writes them for a minute.
    """
    folder = Path(folder)
    release = claim(folder, WAIT)
    try:
        _write(study, what, folder)
    finally:
        release()


def _write(study: Study, what: Search, folder: Path) -> None:
    columns = (
        "number",
        "state",
        "accuracy",
        "network",
        "init",
        *LAYER_FIGURES,
        "minutes",
        "reason",
    )
    rows = []
    for trial in study.get_trials(deepcopy=False):
        known = {
            key: " ".join(f"{v:.4g}" for v in value) if isinstance(value, list) else value
            for key, value in trial.user_attrs.items()
        }
        accuracy = trial.value if trial.state.name == "COMPLETE" else ""
        row = {"number": trial.number, "state": trial.state.name.lower(), "accuracy": accuracy}
        rows.append(row | known)
    write_csv(folder / TABLE, columns, rows)
    ranking = best(study)
    if ranking:
        first = ranking[0]
        content = {
            "accuracy": first.value,
            "trial": first.number,
            "network": first.user_attrs["network"],
            "init": first.user_attrs["init"],
            **what.space.run,
            "dataset": what.dataset,
            "search": what.settings(),
        }
        write_text(folder / BEST, json.dumps(content, indent=2) + "\n")


def best(study: Study, count: int = 10) -> list[FrozenTrial]:
    """The trials that came to their end, the best first, at most ``count``."""
    done = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    return sorted(done, key=lambda trial: -trial.value)[:count]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            f"a search needs optuna, which is not installed ({error}): "
            "pip install softhebb_fast[search]"
        ) from error
    return optuna
