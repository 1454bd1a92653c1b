"""The options of ``softhebb-fast bench``."""

from __future__ import annotations

import argparse
from pathlib import Path

from softhebb_fast.cli.options.common import AddCommand, add_device_option


def add_command(command: AddCommand) -> None:
    """Add the command to the parser, by the function that makes a command's parser."""
    text = "time every backend here against others, after a check that it is right"
    add_options(command("bench", "bench:command", text))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASES",
        help="patterns such as 'cifar10/layer?/b10'; by default those of the committed results",
    )
    parser.add_argument("--list", action="store_true", help="name the cases and the providers")
    parser.add_argument("--quick", action="store_true", help="a few cases, some minutes at most")
    parser.add_argument(
        "--providers", metavar="NAMES", help="with commas between: tuned,cpp; --list names them"
    )
    add_device_option(parser)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each provider at most")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="to spend on the samples of a case, about"
    )
    parser.add_argument(
        "--longest", type=float, default=20.0, help="leave out what takes more seconds a call"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="results; rows of the same key are replaced"
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw them")
    parser.add_argument("--compare", type=Path, metavar="CSV", help="older results")
    parser.add_argument(
        "--fail-above",
        type=float,
        metavar="R",
        help="with --compare: fail if a provider is slower by more than R times, beyond noise",
    )
