"""Programs and commands in the pages, as text."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The blocks of a page in one of ``languages``, in their order."""
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every ``softhebb-fast`` command in the blocks of a page."""
    for text in blocks(page, "", "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["softhebb-fast"]:
                yield words[1:]


def run(program: str, names: dict[str, Any]) -> list[str]:
    """Run a program; what its values are where a comment beside them tells another.

    An expression alone on its line with a value in the comment behind it is compared. Shapes are
    written as lists.
    """
    wrong = []
    for node in ast.parse(program).body:
        source = ast.get_source_segment(program, node)
        if not isinstance(node, ast.Expr):
            exec(compile(ast.Module([node], []), "page", "exec"), names)
            continue
        value = eval(compile(ast.Expression(node.value), "page", "eval"), names)
        line = program.splitlines()[node.end_lineno - 1]
        told = line[node.end_col_offset :].strip().removeprefix("#").strip()
        shown = str(list(value)) if type(value).__name__ == "Size" else repr(value)
        if told and _is_value(told) and told != shown:
            wrong.append(f"{source} is {shown}, the page says {told}")
    return wrong


def _is_value(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True
