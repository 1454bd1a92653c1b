"""Mutations of the PTX of kernels, one instruction at a time.

Only instructions that ran are changed. Left are roundings and the terms of the compiler's
logarithm, which are below what tests tolerate, and the numbers of barriers and shuffles, which name
no values.
"""

from __future__ import annotations

import re
import struct

from benchmarks.fire.mutants.edits import Edit

INSTRUCTION = re.compile(r"^[ \t]*(?:\{[ \t]*)?((?:@!?%p\d+[ \t]+)?[a-z]\w*[^;\n]*;)", re.M)
COMPARED = {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt", "eq": "ne", "ne": "eq"} | {
    "ltu": "leu", "leu": "ltu", "gtu": "geu", "geu": "gtu", "equ": "neu", "neu": "equ",
}  # fmt: skip
OPCODES = {"add": "sub", "sub": "add", "min": "max", "max": "min", "and": "or", "or": "and",
           "xor": "or", "shl": "shr", "shr": "shl"}  # fmt: skip
REMOVED = ("bar", "st", "cp", "red", "membar", "fence", "wgmma")
ORDERED = ("sub", "selp", "div", "shl", "shr")
FLOAT = re.compile(r"0f([0-9A-Fa-f]{8})")
LOGARITHM = "fma.rn.ftz"  # what the kernels themselves multiply and add has no such mark
REGISTER = re.compile(r"%r\d+")
NUMBER = re.compile(r"(?<![\w%.])-?\d+(?![\w.])")


def instructions(text: str) -> list[re.Match]:
    """Of the bodies of functions alone."""
    begin = text.find("\n{")
    return [m for m in INSTRUCTION.finditer(text, max(begin, 0)) if not m.group(1).startswith(".")]


def edits(text: str, dead: set[str] = frozenset()) -> list[Edit]:
    """All that can be mutated, in order, but for the instructions that never run: ``dead`` holds
    their first 60 characters."""
    dead = {" ".join(line.split()) for line in dead}
    found, lines = [], instructions(text)
    terms = {r for m in lines if LOGARITHM in m.group(1) for r in REGISTER.findall(m.group(1))}
    for match in lines:
        line = " ".join(match.group(1).split()).removesuffix(";").rstrip()
        if LOGARITHM in line or (
            line.startswith("mov.b32") and terms & set(REGISTER.findall(line))
        ):
            continue
        if line not in dead and not any(len(d) > 55 and line.startswith(d) for d in dead):
            found += _of(match.group(1), match.start(1))
    return sorted(found)


def _of(line: str, at: int) -> list[Edit]:
    found: list[Edit] = []

    def put(begin: int, end: int, new: str, change: str) -> None:
        found.append(Edit(at + begin, at + end, new, change))

    head = re.match(r"(@!?)?(?:%p\d+\s+)?([a-z]\w*)((?:\.\w+|::\w+)*)", line)
    guard, op, kinds = head.group(1), head.group(2), head.group(3)
    if guard:
        put(0, len(guard), "@!" if guard == "@" else "@", "negation")
    kind = re.match(r"\.(\w+)", kinds)
    if op == "setp" and kind.group(1) in COMPARED:
        put(head.start(3) + 1, head.start(3) + kind.end(), COMPARED[kind.group(1)], "comparison")
    if op in OPCODES and not kinds.startswith(".cc"):
        new = OPCODES[op]
        if op in ("shl", "shr"):  # shr alone has a type with a sign
            size = re.search(r"\d+$", kinds).group()
            new += f".b{size}" if new == "shl" else f".u{size}"
            put(head.start(2), head.end(3), new, "arithmetic")
        else:
            put(head.start(2), head.end(2), new, "arithmetic")
    if op in REMOVED and "commit" not in kinds:
        put(0, len(line), "", "removal" if op != "bar" else "barrier")
    operands = line[head.end() :]
    if op in ORDERED and (m := re.match(r"\s*[^,]+,\s*([^,]+),\s*([^,;]+)", operands)):
        first, second = m.group(1).strip(), m.group(2).strip()
        if first != second:
            swapped = operands[m.start(1) : m.start(1)] + second + ", " + first
            put(head.end() + m.start(1), head.end() + m.end(2), swapped, "order")
    if op == "fma" and (m := re.match(r"\s*([^,]+),\s*([^,]+),\s*([^,]+),\s*([^,;]+)", operands)):
        put(head.end() + m.start(4), head.end() + m.end(4), m.group(3).strip(), "operand")
    if op not in ("bar", "shfl") and not (op == "ld" and "param" in kinds):
        for m in NUMBER.finditer(operands):
            new = str(int(m.group()) + 1)
            put(head.end() + m.start(), head.end() + m.end(), new, "constant")
        for m in FLOAT.finditer(operands):
            put(head.end() + m.start(), head.end() + m.end(), _more(m.group(1)), "constant")
    return found


def _more(digits: str) -> str:
    """A float32 that is clearly another: twice as large, 1 for 0 and 0 for what is not finite."""
    value = struct.unpack(">f", bytes.fromhex(digits))[0]
    other = 1.0 if value == 0 else value * 2 if abs(value) < 1e38 else 0.0
    return "0f" + struct.pack(">f", other).hex().upper()
