"""The parser of the command's options."""

from __future__ import annotations

import argparse

from softhebb_fast import __version__
from softhebb_fast.cli.options import backprop, bench, reproduce, search, train


def make_parser() -> argparse.ArgumentParser:
    """All commands; ``command`` of what is parsed is the function that runs one, as MODULE:NAME."""
    parser = argparse.ArgumentParser(
        prog="softhebb-fast", description="Train SoftHebb networks without labels."
    )
    parser.add_argument("--version", action="version", version=f"softhebb_fast {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, place: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=place, parser=sub)
        return sub

    train.add_commands(command)
    backprop.add_command(command)
    train.add_readers(command)
    reproduce.add_command(command)
    bench.add_command(command)
    search.add_command(command)
    sub = command("presets", "presets:command", "list the networks, or describe one")
    sub.add_argument("name", nargs="?", metavar="NAME")
    text = "versions, devices, backends and why the others are not used"
    command("info", "info:command", text)
    return parser
