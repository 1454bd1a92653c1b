"""The options of ``softhebb-fast train``, ``resume``, ``evaluate`` and ``plot``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from softhebb_fast.cli.names import (
    BACKENDS,
    CACHE_DTYPES,
    CLASSIFIERS,
    FROM_DATA,
    INITS,
    MODES,
    PRECISIONS,
)
from softhebb_fast.cli.options.common import (
    AUTOCAST,
    AddCommand,
    Gathered,
    add_data_option,
    add_device_option,
    add_run_options,
    add_symmetry_steps,
    argument,
)
from softhebb_fast.cli.options.data import add_data_options
from softhebb_fast.kinds import RULES, TIE_RULES
from softhebb_fast.naming import parse_init

PRECISION = "SOFTHEBB_FAST_PRECISION"


def add_commands(command: AddCommand) -> None:
    """Add the commands about one run to the parser, by the function that makes a command's."""
    text = "train a network, then its classifier, and draw what it learned"
    _add_training_options(command("train", "train:train", text))
    sub = command("resume", "train:resume", "go on with a run that was stopped")
    sub.add_argument("folder", metavar="DIR", type=Path)
    add_data_option(sub)
    add_run_options(sub)


def add_readers(command: AddCommand) -> None:
    """Add the commands that read a run."""
    sub = command("evaluate", "train:evaluate", "test accuracy of a run")
    sub.add_argument("folder", metavar="DIR", type=Path)
    add_data_option(sub)
    text = "draw filters, receptive fields and curves of a run"
    sub = command("plot", "train:plot", text)
    sub.add_argument("folder", metavar="DIR", type=Path)
    sub.add_argument("--quiet", action="store_true", help="no progress bars")


def _add_training_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("preset", metavar="PRESET", help="a preset's name, or layer strings")
    add_data_options(sub, "that of the preset, mnist for layer strings")
    sub.add_argument("--out", metavar="DIR", type=Path, help="folder of the run; default in runs/")
    sub.add_argument(
        "--init",
        type=argument(parse_init),
        help=f"one of {', '.join((*INITS, *FROM_DATA))}; with settings 'zerO:scale=fork'; by layer "
        "'1=zerO;3=random_binary'; default as published",
    )
    sub.add_argument(
        "--tie-rule", choices=TIE_RULES, default="first", help="who wins among equal neurons"
    )
    sub.add_argument(
        "--rule",
        choices=RULES,
        help="the rule of all Hebbian layers, in the place of the preset's",
    )
    sub.add_argument("--mode", choices=MODES, default="successive")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--backend", choices=BACKENDS, default="auto")
    add_device_option(sub)
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
    text = "also train the classifier on the pixels and on the layers as they started"
    sub.add_argument("--baselines", action="store_true", help=text)
    text = "train the classifier on augmented images, as published for the data set"
    sub.add_argument("--augment", action=argparse.BooleanOptionalAction, default=None, help=text)
    text = "augment by crops instead: padding=4 mode=reflect, replicate or constant, flip=0.5"
    sub.add_argument(
        "--crops", action=Gathered, nargs="*", default=None, metavar="NAME=VALUE", help=text
    )
    sub.add_argument("--cache-dtype", choices=CACHE_DTYPES, default="float32")
    sub.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=os.environ.get(PRECISION) or "ieee",
        help=f"how Hebbian layers take float32 products; default {PRECISION}, else ieee",
    )
    _add_classifier_options(sub)
    sub.add_argument("--autocast", action="store_true", help=AUTOCAST)
    sub.add_argument("--cache-gib", type=float, default=8.0, help="memory for frozen features")
    add_symmetry_steps(sub)
    add_run_options(sub)


def _add_classifier_options(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("what the classifier is and sees")
    text = "ridge, softmax: solved, not trained; default published, as the preset's last layer says"
    group.add_argument("--classifier", choices=CLASSIFIERS, default="published", help=text)
    text = (
        "of the ridge classifier: penalty=holdout, gcv or a number, holdout=0.1, standardise=true, "
        "factors=0.01,0.1, products=float64, sums=float32, kept=bfloat16, form=dual"
    )
    group.add_argument(
        "--ridge", action=Gathered, nargs="+", default=None, metavar="NAME=VALUE", help=text
    )
    text = (
        "of the softmax classifier: penalty=holdout or a number, holdout=0.1, standardise=true, "
        "factors=0.0001,0.001, smoothing=0.1, iterations=100"
    )
    group.add_argument(
        "--softmax", action=Gathered, nargs="+", default=None, metavar="NAME=VALUE", help=text
    )
    text = (
        "what it sees: layers=1,2 grid=4 (a side for all, or one each) pool=avg or max, window=0.5 "
        "(a share of the map) mirrored=true power=0.5"
    )
    group.add_argument(
        "--features", action=Gathered, nargs="+", default=None, metavar="NAME=VALUE", help=text
    )
    text = "learn from mirror images too, and take the mean of both scores in tests"
    group.add_argument("--flips", action="store_true", help=text)
    text = "take the mean of the scores in tests of images moved by N pixels in eight directions"
    group.add_argument("--shifts", type=int, default=0, metavar="N", help=text)
