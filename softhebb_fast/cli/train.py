"""``softhebb-fast train``, ``resume``, ``evaluate`` and ``plot``: a run and its pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

from softhebb_fast import sealed
from softhebb_fast.cli import baselines, header
from softhebb_fast.cli.errors import users_mistakes
from softhebb_fast.cli.options.data import reading
from softhebb_fast.cli.process import default_device, join, leave, restarted
from softhebb_fast.cli.progress import Bars, stops_on_interrupt
from softhebb_fast.data.catalog import canonical_name
from softhebb_fast.data.sources import DataMissing
from softhebb_fast.files import InUse, claim
from softhebb_fast.naming import parse_settings
from softhebb_fast.plots import plot_run, state_of
from softhebb_fast.presets import PRESETS, get_preset, is_name, published_dataset
from softhebb_fast.training import checkpoint, metrics, runs
from softhebb_fast.training.config import Config, RunConfig
from softhebb_fast.training.loop import Loop
from softhebb_fast.training.ranks import Ranks
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import CONFIG_FILE, is_finished, load_run, read_config

ERRORS = {"loss": "mean loss", "squared_error": "mean squared error"}


def train(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    given, options.dataset = options.dataset, _dataset(options)
    options.device = options.device or default_device()
    options.reading = reading(options)
    for name in ("ridge", "softmax", "features", "crops"):
        if (texts := getattr(options, name)) is not None:
            setattr(options, name, _settings(name, texts))
    with users_mistakes():
        config = RunConfig(**{f.name: getattr(options, f.name) for f in fields(RunConfig)})
        if options.baselines:
            baselines.configs(config)
    slug = config.preset if config.preset in PRESETS else "network"
    slug += f"-{config.rule}" if config.rule else ""
    try:
        return begin(config, f"{slug}-{Path(config.dataset).name}-{config.seed}", options)
    except DataMissing as error:
        if given is not None:
            raise
        raise DataMissing(
            f"{error}. {config.preset} is trained on {config.dataset} unless --dataset names "
            "another data set"
        ) from error


def resume(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    join(read_config(options.folder)[0].device)
    return _run(lambda **extra: runs.resume(options.folder, root=options.data, **extra), options)


def evaluate(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    run = load_run(options.folder)
    test = run.load("test", options.data)
    loss, accuracy = run.evaluate(test=test)
    error = ERRORS[run.config.error]
    print(f"test accuracy {accuracy:.2f} % of {len(test)} images, {error} {loss:.4f}")
    return 0


def plot(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    state, run = _state(options.folder), load_run(options.folder)
    figures = (run.net, run.rows, options.folder, run.symmetry)
    for path in _draw(figures, run.neurons, Bars(options.quiet), state):
        print(path)
    return 0


def begin(config: Config, name: str, options: argparse.Namespace) -> int:
    """Make the run of ``config`` in ``--out``, or in a folder of that name in ``runs``.

    There, a run of the same configuration that was stopped goes on; beside one that is finished, of
    another configuration, or being made by another process, a number is put behind the name. A run
    in ``--out`` goes on if ``torchrun`` has started its processes again.
    """
    join(config.device)
    ranks, given = Ranks.here(), options.out

    def chosen() -> tuple[Path, bool]:
        if given is not None:
            return given, restarted() and (given / CONFIG_FILE).exists() and _goes_on(given, config)
        return next(
            (folder, (folder / CONFIG_FILE).exists())
            for folder in _folders(Path("runs") / name)
            if _is_free(folder, config)
        )

    def make(**extra: Any) -> Loop:
        while True:
            folder, goes_on = ranks.told(ranks.by_first(chosen))
            try:
                if not goes_on:
                    return runs.begin(config, folder, root=options.data, **extra)
                stopped = runs.resume(folder, root=options.data, **extra)
            except InUse:
                if given is not None or ranks.several:
                    raise
                continue
            if ranks.first:
                print(f"{folder} was stopped before its end, and goes on")
            return stopped

    return _run(make, options)


def _dataset(options: argparse.Namespace) -> str:
    """The data set that is asked for, else that of the preset, or MNIST for layer strings."""
    preset = options.preset
    published = "mnist"
    if is_name(preset):
        try:
            published = published_dataset(get_preset(preset).name)
        except ValueError as error:
            raise ValueError(str(error).replace("name must", "preset must", 1)) from None
    if not (options.dataset or published):
        raise ValueError(f"dataset must be given for {preset}, which was published for none")
    return canonical_name(options.dataset or published)


def _settings(name: str, texts: list[str]) -> dict[str, Any]:
    try:
        return parse_settings(texts)
    except ValueError as error:
        raise ValueError(str(error).replace("settings must", f"{name} must", 1)) from None


def _folders(first: Path) -> Iterator[Path]:
    yield first
    for number in count(2):
        yield first.with_name(f"{first.name}-{number}")


def _is_free(folder: Path, config: Config) -> bool:
    """Whether a run of ``config`` may begin or go on in ``folder``, and nobody is at it."""
    if not folder.exists():
        return True
    try:
        claim(folder)()
    except InUse:
        return False
    return not (folder / CONFIG_FILE).exists() or _goes_on(folder, config)


def _goes_on(folder: Path, config: Config) -> bool:
    """Whether ``folder`` holds a run of ``config`` that has not come to its end."""
    try:
        made, _ = read_config(folder)
        return made == config.resolved() and not is_finished(folder)
    except ValueError:
        return False


def _run(make: Callable[..., Loop], options: argparse.Namespace) -> int:
    """Bring the run that ``make`` gives to its end, and draw and tell what it became."""
    ranks = Ranks.here()
    bars = Bars(options.quiet, options.tensorboard) if ranks.first else Reporter()
    with users_mistakes():
        trainer = make(reporter=bars)
    if not ranks.first:
        with stops_on_interrupt(trainer):
            trainer.run()
        leave()
        return 0
    described = getattr(trainer.net, "preset", None)
    print(described.describe() if described else f"{trainer.config.network} {trainer.config.init}")
    print(header.of_run(trainer))
    print(f"writing to {trainer.out}", flush=True)
    drawn = trainer.finished and _drawn(trainer.out)
    try:
        with stops_on_interrupt(trainer):
            summary = trainer.run()
        leave()
        paths = drawn or []
        if not (drawn or options.no_plots):
            figures = (trainer.net, trainer.rows, trainer.out, trainer.symmetry.rows)
            paths = _draw(figures, trainer.neurons, bars, _state(trainer.out))
        compared = getattr(options, "baselines", False)
        others = compared and baselines.make(trainer)
    finally:
        bars.end()
    _print_summary(trainer, summary, paths)
    if others:
        print(baselines.text(summary, others))
    return 0


def _drawn(folder: Path) -> list[Path]:
    """The pictures of a finished run, none if they have not all been drawn since it ended."""
    state = _state(folder)
    if state is None or state_of(folder / "curves.png") != state:  # which is drawn last
        return []
    return sorted(folder.glob("*.png"))


def _state(folder: Path) -> str | None:
    """What its pictures show: by the digest of its checkpoint, None if that is older than digests
    or not there."""
    path = folder / checkpoint.FILE
    return sealed.digest_of(path) if path.exists() else None


def _draw(
    figures: tuple, neurons: dict[int, dict[str, Any]], bars: Bars, state: str | None
) -> list[Path]:
    try:
        return plot_run(*figures, reporter=bars, recorded=neurons, state=state)
    finally:
        bars.end()


def _print_summary(trainer: Loop, summary: dict[str, Any], paths: list[Path]) -> None:
    for row in summary["layers"]:
        print(
            f"layer {row['layer']}: mean norm {row['norm_mean']:.2f}, {row['r1']} neurons at "
            f"norm 1, winner probability {row['winner_probability']:.3f}, busiest neuron "
            f"{100 * row['busiest_share']:.1f} %, {row['distinct_filters']} distinct filters"
        )
    images = f"of {len(trainer.test_set)} images"
    if "neuron_accuracy" in summary:
        accuracy = summary["neuron_accuracy"]
        print(f"test accuracy by the winner's label: {accuracy:.2f} % {images}")
    error = trainer.config.error
    if "penalty" in summary:
        print(f"{trainer.config.classifier} classifier with penalty {summary['penalty']:.4g}")
    found = f"{ERRORS[error]} {summary[f'test_{error}']:.4f}"
    print(
        f"test accuracy {summary['test_accuracy']:.2f} % {images}, {found}, "
        f"after {summary['seconds'] / 60:.1f} minutes"
    )
    files = [trainer.out / metrics.FILE, *paths]
    print("written: " + ", ".join(str(path) for path in files))
