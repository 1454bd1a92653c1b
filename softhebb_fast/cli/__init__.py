"""The command ``softhebb-fast``: the only place that prints.

Only what a command needs is imported, once its options are known to be right.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from softhebb_fast import environment
from softhebb_fast.cli.errors import in_words_of, ran_out_of_memory
from softhebb_fast.cli.parser import make_parser

OK, PARTLY, MISTAKE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141
NO_MEMORY = (
    "softhebb-fast: error: there is not enough memory for this, here and now; smaller batches, "
    "fewer images or neurons take less"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    0: what was asked is done. 1: it ran, and not all of it could be done, or a check failed. 2: a
    user's mistake, or files that cannot be had. 130: stopped. 141: nobody reads what it prints.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "command"):
        parser.print_help()
        return MISTAKE
    try:
        status = _run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"{_name()}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if ran_out_of_memory(error):
            print(f"{NO_MEMORY} ({error or type(error).__name__})", file=sys.stderr)
        elif isinstance(error, (ValueError, OSError)):
            text = " ".join(str(error).split("\n"))
            print(f"{_name()}: error: {in_words_of(options.parser, text)}", file=sys.stderr)
        else:
            raise
        return MISTAKE


def _run(options: argparse.Namespace) -> int:
    module, function = options.command.split(":")
    if module != "info":
        environment.check()
    from softhebb_fast.cli import process
    from softhebb_fast.functional.distributed import ProcessLost
    from softhebb_fast.training.loop import Interrupted
    from softhebb_fast.training.ranks import Drifted, FirstFailed

    process.settle()
    command = getattr(import_module(f"softhebb_fast.cli.{module}"), function)
    try:
        return command(options)
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            print(f"softhebb-fast: {stop}", file=sys.stderr)
        return INTERRUPTED
    except FirstFailed:
        return MISTAKE
    except (ProcessLost, Drifted) as error:
        print(f"{_name()}: {error}", file=sys.stderr)
        return PARTLY


def _name() -> str:
    """The command, and which of several processes of ``torchrun`` speaks."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return f"softhebb-fast (process {os.environ.get('RANK')})" if several else "softhebb-fast"
