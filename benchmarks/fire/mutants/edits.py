"""A change of one place of a text."""

from __future__ import annotations

from typing import NamedTuple

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}


class Edit(NamedTuple):
    """``text[begin:end]`` becomes ``new``."""

    begin: int
    end: int
    new: str
    change: str  # what kind of change it is, in a word

    def applied(self, text: str) -> str:
        return text[: self.begin] + self.new + text[self.end :]

    def line(self, text: str) -> int:
        """Counted from 1."""
        return text.count("\n", 0, self.begin) + 1

    def shown(self, text: str) -> tuple[str, str]:
        """What was there and what is, with the rest of its lines."""
        first = text.rfind("\n", 0, self.begin) + 1
        last = text.find("\n", self.end)
        last = len(text) if last < 0 else last
        head, tail = text[first : self.begin], text[self.end : last]
        old = head + text[self.begin : self.end] + tail
        return " ".join(old.split()), " ".join((head + self.new + tail).split())


def next_number(text: str) -> str:
    """A number with one more; C++'s suffixes stay."""
    digits = text.rstrip("fFuUlL") if not text.startswith("0x") else text.rstrip("uUlL")
    suffix = text[len(digits) :]
    try:
        return str(int(digits, 0) + 1) + suffix
    except ValueError:
        return repr(float(digits) + 1.0) + suffix
