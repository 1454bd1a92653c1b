"""The options of ``softhebb-fast reproduce``."""

from __future__ import annotations

import argparse
from pathlib import Path

from softhebb_fast.cli.names import BACKENDS, EXPERIMENTS, PRECISIONS
from softhebb_fast.cli.options.common import (
    AUTOCAST,
    AddCommand,
    Gathered,
    add_data_option,
    add_device_option,
)

RUNS = Path("runs") / "reproduce"
PAGE = Path("docs") / "results.md"


def add_command(command: AddCommand) -> None:
    """Add the command to the parser, by the function that makes a command's parser."""
    text = "make the runs of a published table or figure"
    sub = command("reproduce", "reproduce:command", text)
    sub.add_argument(
        "name", nargs="?", metavar="NAME", help=f"{', '.join(EXPERIMENTS)}; none lists them"
    )
    sub.add_argument(
        "--seeds", action=Gathered, nargs="+", type=int, default=[0], metavar="N", help="default 0"
    )
    sub.add_argument(
        "--apart", action="store_true", help="one seed after the other, on a GPU as well"
    )
    sub.add_argument(
        "--cells",
        action=Gathered,
        nargs="+",
        default=["*"],
        metavar="GLOB",
        help="only cells of such names",
    )
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
        metavar="DIR",
        help="folder of the CSV and the figure; default results, with --limit that of --out",
    )
    add_data_option(sub)
    sub.add_argument("--backend", choices=BACKENDS, help="default auto")
    add_device_option(sub)
    sub.add_argument("--precision", choices=PRECISIONS, help="default ieee")
    sub.add_argument("--autocast", action="store_true", default=None, help=AUTOCAST)
    sub.add_argument(
        "--limit", type=int, metavar="N", help="so many images: a trial, kept apart from results"
    )
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
