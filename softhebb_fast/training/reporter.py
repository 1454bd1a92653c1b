"""What a long computation tells of its progress; this one keeps silent."""

from __future__ import annotations

from softhebb_fast.training.metrics import MetricsRow


class Reporter:
    """Hears of stages and their progress. Subclasses show it."""

    def begin(self, title: str, total: int, done: int = 0, unit: str = "img") -> None:
        """A stretch of ``total`` samples (or other units) begins, ``done`` of them behind."""

    def advance(self, count: int) -> None:
        """``count`` more samples are done."""

    def status(self, text: str) -> None:
        """The latest figures of this stretch."""

    def end(self) -> None:
        """The stretch is over."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def record(self, row: MetricsRow) -> None:
        """A row of figures has been recorded."""
