"""The command ``softhebb-fast``: the only place that prints."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from softhebb_fast import __version__
from softhebb_fast.cli import backprop, bench, info, reproduce, search, train
from softhebb_fast.cli.memory import keep_freed_memory
from softhebb_fast.plots import plot_run
from softhebb_fast.presets import PRESETS, get_preset
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.run_folder import load_run

INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 2 for a user's mistake, 130 when stopped."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "command"):
        parser.print_help()
        return 2
    # Softmax leaves denormals behind, and multiplying with them is several times slower.
    torch.set_flush_denormal(True)
    keep_freed_memory()
    try:
        status = options.command(options)
        sys.stdout.flush()
        return status
    except Interrupted as stop:
        print(f"softhebb-fast: {stop}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("softhebb-fast: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (ValueError, OSError) as error:
        print(f"softhebb-fast: error: {error}", file=sys.stderr)
        return 2


def evaluate(options: argparse.Namespace) -> int:
    loss, accuracy = load_run(options.folder).evaluate(options.data)
    print(f"test accuracy {accuracy:.2f} %, mean loss {loss:.4f}")
    return 0


def plot(options: argparse.Namespace) -> int:
    run = load_run(options.folder)
    for path in plot_run(run.net, run.rows, options.folder, run.symmetry, recorded=run.neurons):
        print(path)
    return 0


def presets(options: argparse.Namespace) -> int:
    chosen = [get_preset(options.name)] if options.name else PRESETS.values()
    print("\n".join(preset.describe() for preset in chosen))
    return 0


def show_info(options: argparse.Namespace) -> int:
    print(info.report())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="softhebb-fast", description="Train SoftHebb networks without labels."
    )
    parser.add_argument("--version", action="version", version=f"softhebb_fast {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    train.add_commands(command)
    backprop.add_command(command)
    sub = command("evaluate", evaluate, "test accuracy of a run")
    sub.add_argument("folder", metavar="DIR", type=Path)
    sub.add_argument("--data", metavar="ROOT", help="folder of the data sets")
    sub = command("plot", plot, "draw filters, receptive fields and curves of a run")
    sub.add_argument("folder", metavar="DIR", type=Path)
    reproduce.add_command(command)
    bench.add_command(command)
    search.add_command(command)
    sub = command("presets", presets, "list the networks, or describe one")
    sub.add_argument("name", nargs="?", metavar="NAME")
    command("info", show_info, "versions, devices, backends and why the others are not used")
    return parser
