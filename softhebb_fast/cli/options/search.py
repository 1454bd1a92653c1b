"""The options of ``softhebb-fast search``. Those not given take the search's defaults."""

from __future__ import annotations

import argparse
from pathlib import Path

from softhebb_fast.cli.names import BACKENDS, DATA_SETS, PRECISIONS, SPACES
from softhebb_fast.cli.options.common import AddCommand, add_data_option

BUDGET = {
    "images": "training images of a trial; default 10000",
    "validation": "other training images that judge it; default 5000",
    "probe-epochs": "epochs of its classifier; default 3",
}
DISTINCT = "give up below so many distinct filters; default 2"
PROXIES = {
    "entropy": "give up below so many bits in the wins; default 0.05",
    "norm-error": "give up above such a |norm - 1|; default 100",
}


def add_command(command: AddCommand) -> None:
    """Add the command to the parser, by the function that makes a command's parser."""
    sub = command("search", "search:command", "look for layers and starts that learn well")
    sub.add_argument("space", metavar="SPACE", help=", ".join(SPACES))
    sub.add_argument("--dataset", default="mnist", help=f"{', '.join(DATA_SETS)}; default mnist")
    add_data_option(sub)
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
    own = {"default": argparse.SUPPRESS}
    for name, text in (*BUDGET.items(), ("distinct", DISTINCT)):
        sub.add_argument(f"--{name}", type=int, metavar="N", help=text, **own)
    for name, text in PROXIES.items():
        sub.add_argument(f"--{name}", type=float, metavar="X", help=text, **own)
    sub.add_argument("--seed", type=int, default=0, help="of all trials' networks")
    sub.add_argument("--backend", choices=BACKENDS, default="auto")
    sub.add_argument("--precision", choices=PRECISIONS, default="ieee", help="default ieee")


def _setting(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise argparse.ArgumentTypeError(f"settings must look like kernel=3,5; got {text!r}")
    return name, values
