"""What pages say of the command and of the presets, asked of the code itself.

A line ``<!-- made: NAME -->`` in a page is replaced by what the function of that name writes.
"""

from __future__ import annotations

import argparse
import re
import sys
from html import escape
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from softhebb_fast.cli.parser import make_parser
from softhebb_fast.cli.presets import described
from softhebb_fast.environment import VARIABLES
from softhebb_fast.presets import PRESETS

MARK = re.compile(r"^<!-- made: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    return MARK.sub(lambda match: MAKERS[match[1]](), markdown)


def commands() -> str:
    """Every command with its usage and a table of its options."""
    parser = make_parser()
    chosen = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return "\n\n".join(_command(name, sub) for name, sub in chosen.choices.items())


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    rows = [
        f"| {_written(action)} | {_meaning(action)} |"
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    table = ["", "| argument | meaning |", "|---|---|", *rows] if rows else []
    return "\n".join((f"### {name}", "", _sentence(parser.description), *table))


def _written(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if action.choices:
        value = ""
    many = " ..." if action.nargs in ("*", "+") or _repeats(action) else ""
    names = action.option_strings or [value]
    last = f" {value}" if action.option_strings and value else ""
    return "<br>".join(f"`{name}{last}{many}`" for name in names)


def _meaning(action: argparse.Action) -> str:
    parts = [escape(action.help or "", quote=False).replace("%%", "%").replace("|", "\\|")]
    if action.choices:
        parts.append("one of " + ", ".join(f"`{choice}`" for choice in action.choices))
    default = action.default
    shown = default not in (None, False, [], argparse.SUPPRESS) and action.option_strings
    if shown and "default" not in parts[0]:
        parts.append(f"default `{default}`")
    return "; ".join(part for part in parts if part)


def _repeats(action: argparse.Action) -> bool:
    return isinstance(action, argparse._AppendAction)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def presets() -> str:
    """All presets as the command lists them, by the code that they come from."""
    origins = dict.fromkeys(preset.source for preset in PRESETS.values())
    return "\n\n".join(
        f"## {origin}\n\n```text\n"
        + "\n".join(described(p) for p in PRESETS.values() if p.source == origin)
        + "\n```"
        for origin in origins
    )


def environment() -> str:
    """The environment variables."""
    rows = [
        f"| `{name}` | {', '.join(map('`{}`'.format, values))} | {meaning} |"
        for name, (meaning, values) in VARIABLES.items()
    ]
    return "\n".join(("| variable | values | meaning |", "|---|---|---|", *rows))


MAKERS = {function.__name__: function for function in (commands, presets, environment)}
