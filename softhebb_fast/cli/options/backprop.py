"""The options of ``softhebb-fast backprop``. Those not given take the configuration's defaults."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from softhebb_fast.cli.names import NETWORKS
from softhebb_fast.cli.options.common import (
    AUTOCAST,
    AddCommand,
    Gathered,
    add_device_option,
    add_run_options,
    add_symmetry_steps,
    argument,
)
from softhebb_fast.cli.options.data import add_data_options
from softhebb_fast.naming import parse_init

CHOICES = {
    "optimizer": (("adam", "sgd"), "default adam"),
    "loss": (("mean", "sum"), "of a batch; default mean"),
    "statistics": (("running", "batch"), "of batch norms in tests; default running"),
    "augment": (("reflect", "constant"), "pad by 4 pixels in this mode, crop, flip"),
}
WHOLE = {
    "epochs": "passes over the training images; default 10",
    "batch": "images a step; default 128",
    "test-batch": "images a step of tests; default 1000",
    "images": "train on so many images, drawn by the seed",
    "limit": "use only so many training and test images",
    "warm-up": "epochs in which the rate grows linearly",
    "test-every": "epochs between two tests; default 1",
    "records": "how often an epoch's training figures are recorded; default 1",
    "seed": "default 0",
}
REAL = {
    "lr": "default 0.001",
    "momentum": "of sgd; default 0",
    "weight-decay": "default 0",
    "factor": "what the rate is multiplied by at each milestone; default 0.1",
    "weight-noise": "deviation of noise added to the start",
    "gradient-noise": "deviation of noise added to every gradient",
}
FLAGS = {
    "reshuffle": "a new order of the images in every epoch",
    "deterministic": "cuDNN's deterministic algorithms alone",
    "autocast": AUTOCAST,
}


def add_command(command: AddCommand) -> None:
    """Add the command to the parser, by the function that makes a command's parser."""
    text = "train an ordinary network by backpropagation"
    sub = command("backprop", "backprop:command", text)
    sub.add_argument("network", metavar="NETWORK", help=", ".join(NETWORKS))
    add_data_options(sub, "that of the network, else mnist")
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
    add_device_option(sub)
    sub.add_argument(
        "--milestones", action=Gathered, nargs="+", type=int, default=[], metavar="EPOCH"
    )
    own: dict[str, Any] = {"default": argparse.SUPPRESS}
    for name, (choices, text) in CHOICES.items():
        sub.add_argument(f"--{name}", choices=choices, help=text, **own)
    for kind, group in ((int, WHOLE), (float, REAL)):
        for name, text in group.items():
            sub.add_argument(f"--{name}", type=kind, metavar="N", help=text, **own)
    for name, text in FLAGS.items():
        sub.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=text, **own)
    add_symmetry_steps(sub)
    add_run_options(sub)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"an option must look like widen=1; got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
