"""The journal of a study: a line a change, each with a digest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from softhebb_fast import sealed
from softhebb_fast.files import WAIT, claim, named


class Journal(BaseJournalBackend):
    """A journal in a file, with lines that are read as they were written or not at all.

    Lines are added whole. Half a line, as a process leaves it that is killed, is not read and makes
    place for the next one. Processes that add lines wait for each other.

    Raises ValueError, naming the file and the line, for a line that is not what was written; older
    lines have no digest. Raises InUse where another process adds lines for a minute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = [0]  # of the lines that have been read, and of the next
        path.touch()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(sealed.with_digest(log), separators=(",", ":")) for log in logs]
        release = claim(self.path.parent, WAIT)
        try:
            with named(self.path), open(self.path, "r+b", buffering=0) as file:
                _add(file, "".join(f"{line}\n" for line in lines).encode())
        finally:
            release()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        first = min(log_number_from, len(self._starts) - 1)
        with open(self.path, "rb") as file:
            file.seek(self._starts[first])
            for number, line in enumerate(file, first):
                if not line.endswith(b"\n"):
                    return
                if number == len(self._starts) - 1:
                    self._starts.append(self._starts[-1] + len(line))
                if number >= log_number_from:
                    yield self._parsed(number, line)

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            return sealed.parse_json(line)
        except sealed.Damaged as error:
            raise ValueError(
                f"line {number + 1} of the journal {self.path} is damaged: {error}. Put a copy of "
                "the file there, or begin the search again in another folder"
            ) from error


def _add(file: Any, lines: bytes) -> None:
    """Write ``lines`` behind the last whole line of ``file``, all of them or none, to disk."""
    end = file.seek(0, os.SEEK_END)
    if end and (file.seek(end - 1), file.read(1))[1] != b"\n":
        file.seek(0)
        end = file.read().rfind(b"\n") + 1
        file.truncate(end)
    file.seek(end)
    try:
        rest = memoryview(lines)
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.truncate(end)
        raise
    os.fsync(file.fileno())
