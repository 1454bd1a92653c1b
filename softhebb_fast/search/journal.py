"""The journal of a study: a line a change, each with a digest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileSymlinkLock

from softhebb_fast import sealed


class Journal(BaseJournalBackend):
    """Optuna's journal in a file, with lines that are read as they were written or not at all.

    A last line without an end is one that another process writes just now.

    Raises ValueError, naming the file and the line, for a line that is not what was written.
    Older lines have no digest.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = JournalFileBackend(str(path))
        self._starts = [0]  # of the lines that have been read, and of the next

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._file.append_logs([sealed.with_digest(log) for log in logs])

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

    def mend(self) -> None:
        """Take away a last line without an end, as a process leaves it that is killed."""
        lock = JournalFileSymlinkLock(str(self.path))
        lock.acquire()
        try:
            with open(self.path, "r+b") as file:
                whole = file.read()
                file.truncate(whole.rfind(b"\n") + 1)
        finally:
            lock.release()

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            return sealed.parse_json(line)
        except sealed.Damaged as error:
            raise ValueError(
                f"line {number + 1} of the journal {self.path} is damaged: {error}. Put a copy of "
                "the file there, or begin the search again in another folder"
            ) from error
