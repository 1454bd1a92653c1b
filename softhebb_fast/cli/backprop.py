"""``softhebb-fast backprop``: an ordinary network, trained by backpropagation."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch

from softhebb_fast.cli.data import add_dataset, reading
from softhebb_fast.cli.train import (
    add_run_options,
    add_symmetry_steps,
    argument,
    parse_init,
    run,
)
from softhebb_fast.models import NETWORKS
from softhebb_fast.training import runs
from softhebb_fast.training.backprop_config import CHOICES, FLAGS, LEAST, BackpropConfig
from softhebb_fast.training.loop import Loop

HELP = {
    "epochs": "passes over the training images",
    "batch": "images a step",
    "images": "train on so many images, drawn by the seed",
    "limit": "use only so many training and test images",
    "test_every": "epochs between two tests",
    "records": "how often an epoch's training figures are recorded",
    "warm_up": "epochs in which the rate grows linearly",
    "factor": "what the rate is multiplied by at each milestone",
    "weight_noise": "deviation of noise added to the start",
    "gradient_noise": "deviation of noise added to every gradient",
    "loss": "of a batch",
    "statistics": "of batch norms in tests",
    "augment": "pad by 4 pixels in this mode, crop, flip",
}


def add_command(command_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser, by the function that makes a command's parser."""
    sub = command_parser("backprop", command, "train an ordinary network by backpropagation")
    sub.add_argument("network", metavar="NETWORK", help=", ".join(NETWORKS))
    add_dataset(sub)
    sub.add_argument("--out", metavar="DIR", type=Path, help="folder of the run; default in runs/")
    sub.add_argument(
        "--option",
        action="append",
        type=argument(_option),
        default=[],
        metavar="NAME=VALUE",
        help="of the network, such as widen=1 or hidden=[500]",
    )
    sub.add_argument(
        "--init",
        type=argument(parse_init),
        help="zerO, constant, zero_bias, zeros or another; with settings "
        "'zero_bias:distribution=uniform,scale=0.01' or 'zerO:zero_branches=true'",
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    sub.add_argument("--device", default=default, help=f"default here: {default}")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--milestones", nargs="+", type=int, default=[], metavar="EPOCH")
    text = "means and deviations of the channels, such as [[0.13],[0.31]]"
    sub.add_argument("--normalise", type=argument(json.loads), metavar="JSON", help=text)
    defaults = {f.name: f.default for f in fields(BackpropConfig) if f.default is not MISSING}
    for name, choices in CHOICES.items():
        allowed = [choice for choice in choices if choice is not None]
        sub.add_argument(_flag(name), choices=allowed, default=defaults[name], help=HELP.get(name))
    for name, least in LEAST.items():
        kind = int if isinstance(least, int) else float
        options = {"type": kind, "default": defaults[name], "metavar": "N"}
        sub.add_argument(_flag(name), help=HELP.get(name), **options)
    for name in FLAGS:
        options = {"action": argparse.BooleanOptionalAction, "default": defaults[name]}
        sub.add_argument(_flag(name), **options)
    add_symmetry_steps(sub)
    add_run_options(sub)


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    options.options = dict(options.option)
    options.reading = reading(options)
    values = {f.name: getattr(options, f.name) for f in fields(BackpropConfig)}
    name = f"{options.network}-{Path(options.dataset).name}-{options.seed}"
    out = options.out or Path("runs") / name

    def begin(**extra: Any) -> Loop:
        return runs.begin(BackpropConfig(**values), out, root=options.data, **extra)

    return run(begin, options)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"an option must look like widen=1; got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
