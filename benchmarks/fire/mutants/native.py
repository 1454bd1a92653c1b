"""Mutations of C++, of code as clang-format leaves it: operators stand between spaces.

``<`` without them belongs to a template. Comments, texts, checks' messages and preprocessor lines
stay as they are. A change that does not compile is no mutant.
"""

from __future__ import annotations

import re

from benchmarks.fire.mutants.edits import COMPARISONS, Edit, next_number

ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "+=": "-=", "-=": "+=", "*=": "/="}
LOGIC = {"&&": "||", "||": "&&"}
NAMES = {"min": "max", "max": "min", "true": "false", "false": "true"}
SKIPPED = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.S | re.M
)
OPERATOR = re.compile(r"(?<= )(<=?|>=?|==|!=|&&|\|\||[-+*]=?|/|%)(?= )")
NAME = re.compile(r"(?<=std::)(?:min|max)\b|\b(?:true|false)\b")
NUMBER = re.compile(
    r"(?<![\w.])(?:0x[0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)[fFuUlL]*(?![\w.])"
)
CONDITION = re.compile(r"\bif (?:constexpr )?\(")
STATEMENT = re.compile(
    r"^[ \t]+(?!return\b|using\b|throw\b|TORCH_)[\w.:\[\]>*-]+(?:\(| [-+*|]?= )", re.M
)


def blanked(text: str) -> str:
    """The code alone; what is skipped is spaces."""
    return SKIPPED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def closing(text: str, at: int) -> int:
    """Of the bracket at ``at``, its partner."""
    depth = 0
    for i in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return -1


def edits(text: str) -> list[Edit]:
    """All that can be mutated in a file, in the order of its text."""
    code, found = blanked(text), []
    for match in OPERATOR.finditer(code):
        old = match.group()
        for kind, table in (
            ("comparison", COMPARISONS),
            ("logic", LOGIC),
            ("arithmetic", ARITHMETIC),
        ):
            if old in table:
                found.append(Edit(*match.span(), table[old], kind))
                break
    for match in NAME.finditer(code):
        kind = "bound" if match.group() in ("min", "max") else "constant"
        found.append(Edit(*match.span(), NAMES[match.group()], kind))
    for match in NUMBER.finditer(code):
        found.append(Edit(*match.span(), next_number(match.group()), "constant"))
    for match in CONDITION.finditer(code):
        begin, end = match.end(), closing(code, match.end() - 1)
        if end >= 0:
            found.append(Edit(begin, end, f"!({text[begin:end]})", "negation"))
    for match in STATEMENT.finditer(code):
        begin = match.start() + len(match.group()) - len(match.group().lstrip())
        end = code.find(";", begin)
        if "{" not in code[begin:end] and code[begin:end].count("(") == code[begin:end].count(")"):
            found.append(Edit(begin, end, "", "removal"))
    return sorted(found)
