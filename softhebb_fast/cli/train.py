"""``softhebb-fast train`` and ``resume``: a run from its options to its pictures."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from softhebb_fast.backends import BACKENDS
from softhebb_fast.cli import reproduce
from softhebb_fast.cli.data import add_dataset, add_normalise, reading
from softhebb_fast.cli.progress import Bars, stops_on_interrupt
from softhebb_fast.init import INITS
from softhebb_fast.kinds import TIE_RULES
from softhebb_fast.plots import plot_run
from softhebb_fast.precision import PRECISIONS, VARIABLE
from softhebb_fast.presets import PRESETS
from softhebb_fast.training import metrics, runs
from softhebb_fast.training.config import CACHE_DTYPES, MODES, RunConfig
from softhebb_fast.training.loop import Loop


def add_commands(command_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add both commands to the parser, by the function that makes a command's parser."""
    text = "train a network, then its classifier, and draw what it learned"
    _add_training_options(command_parser("train", train, text))
    sub = command_parser("resume", resume, "go on with a run that was stopped")
    sub.add_argument("folder", metavar="DIR", type=Path)
    sub.add_argument("--data", metavar="ROOT", help="folder of the data sets")
    add_run_options(sub)


def train(options: argparse.Namespace) -> int:
    options.reading = reading(options, with_normalise=True)
    config = RunConfig(**{f.name: getattr(options, f.name) for f in fields(RunConfig)})
    name = f"{_slug(config.preset)}-{Path(config.dataset).name}-{config.seed}"
    out = options.out or Path("runs") / name
    return run(lambda **extra: runs.begin(config, out, root=options.data, **extra), options)


def resume(options: argparse.Namespace) -> int:
    root = {} if options.data is None else {"root": options.data}
    return run(lambda **extra: runs.resume(options.folder, **root, **extra), options)


def parse_init(text: str) -> Any:
    """An initialisation from the command line.

    ``zerO``; ``zerO:scale=fork,noise=0.01``; by layer, counted from 1: ``1=zerO;3=random_binary``
    (the others are normal).
    """
    if "=" in text.split(":")[0]:
        pairs = (part.split("=", 1) for part in text.split(";"))
        try:
            return {int(layer) - 1: parse_init(init) for layer, init in pairs}
        except ValueError:
            raise ValueError(
                f"init by layer must look like '1=zerO;3=random_binary'; got {text!r}"
            ) from None
    name, _, settings = text.partition(":")
    if not settings:
        return name
    result: dict[str, Any] = {"name": name}
    for setting in settings.split(","):
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"init settings must look like 'scale=fork'; got {setting!r}")
        try:
            result[key] = json.loads(value)
        except json.JSONDecodeError:
            result[key] = value
    return result


def run(make: Callable[..., Loop], options: argparse.Namespace) -> int:
    """Bring the run that ``make`` gives to its end, and draw and tell what it became."""
    bars = Bars(options.quiet, options.tensorboard)
    try:
        trainer = make(reporter=bars)
    except (RuntimeError, TypeError) as error:
        raise ValueError(str(error)) from error
    described = getattr(trainer.net, "preset", None)
    print(described.describe() if described else f"{trainer.config.network} {trainer.config.init}")
    print(f"writing to {trainer.out}")
    try:
        with stops_on_interrupt(trainer):
            summary = trainer.run()
    finally:
        bars.end()
    drawn = (trainer.net, trainer.rows, trainer.out, trainer.symmetry.rows)
    paths = [] if options.no_plots else plot_run(*drawn)
    _print_summary(trainer, summary, paths)
    return 0


def _print_summary(trainer: Loop, summary: dict[str, Any], paths: list[Path]) -> None:
    for row in summary["layers"]:
        print(
            f"layer {row['layer']}: mean norm {row['norm_mean']:.2f}, {row['r1']} neurons at "
            f"norm 1, winner probability {row['winner_probability']:.3f}, busiest neuron "
            f"{100 * row['busiest_share']:.1f} %, {row['distinct_filters']} distinct filters"
        )
    if "neuron_accuracy" in summary:
        print(f"test accuracy by the winner's label: {summary['neuron_accuracy']:.2f} %")
    print(
        f"test accuracy {summary['test_accuracy']:.2f} %, mean loss {summary['test_loss']:.4f}, "
        f"after {summary['seconds'] / 60:.1f} minutes"
    )
    files = [trainer.out / metrics.FILE, *paths]
    print("written: " + ", ".join(str(path) for path in files))


def _slug(preset: str) -> str:
    return preset if preset in PRESETS else "network"


def add_run_options(sub: argparse.ArgumentParser) -> None:
    """The options of every command that makes a run: what it shows and draws."""
    sub.add_argument("--no-plots", action="store_true", help="draw nothing at the end")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    sub.add_argument(
        "--tensorboard", metavar="DIR", type=Path, help="also write the figures for TensorBoard"
    )


def _add_training_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("preset", metavar="PRESET", help="a preset's name, or layer strings")
    add_dataset(sub)
    add_normalise(sub)
    sub.add_argument("--out", metavar="DIR", type=Path, help="folder of the run; default in runs/")
    sub.add_argument(
        "--init",
        type=argument(parse_init),
        help=f"one of {', '.join(INITS)}; with settings 'zerO:scale=fork'; by layer "
        "'1=zerO;3=random_binary'; default as published",
    )
    sub.add_argument(
        "--tie-rule", choices=TIE_RULES, default="first", help="who wins among equal neurons"
    )
    sub.add_argument("--mode", choices=MODES, default="successive")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--backend", choices=BACKENDS, default="auto")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    sub.add_argument("--device", default=default, help=f"default here: {default}")
    sub.add_argument("--width-factor", type=float, help="channel multiplier a layer (published: 4)")
    sub.add_argument("--neuron-factor", type=float, default=1.0, help="scales every layer")
    for name, text in (
        ("unsup-epochs", "epochs of each Hebbian layer; 0 leaves them random"),
        ("unsup-batch", "batch of the Hebbian layers"),
        ("probe-epochs", "epochs of the classifier"),
        ("probe-batch", "batch of the classifier"),
        ("test-batch", "batch of the evaluation"),
        ("limit", "use only so many images"),
    ):
        sub.add_argument(f"--{name}", type=int, metavar="N", help=text)
    sub.add_argument("--augment", action=argparse.BooleanOptionalAction, default=None)
    sub.add_argument("--cache-dtype", choices=CACHE_DTYPES, default="float32")
    sub.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=os.environ.get(VARIABLE) or "ieee",
        help=f"how Hebbian layers take float32 products; default {VARIABLE}, else ieee",
    )
    sub.add_argument("--autocast", action="store_true", help=reproduce.AUTOCAST)
    sub.add_argument("--cache-gib", type=float, default=8.0, help="memory for frozen features")
    add_symmetry_steps(sub)
    add_run_options(sub)


def add_symmetry_steps(sub: argparse.ArgumentParser) -> None:
    """The option that says when symmetry is recorded."""
    text = "steps after which the symmetry of all weights is recorded"
    sub.add_argument("--symmetry-steps", nargs="+", type=int, default=[], metavar="N", help=text)


def argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` as argparse takes it: its ValueErrors are the user's mistakes."""

    def checked(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked
