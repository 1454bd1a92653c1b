"""When a run writes its checkpoints and when it stops, agreed between its processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from softhebb_fast.training.ranks import Ranks

SHARE = 20  # times what writing a checkpoint takes, before the end of an epoch gets another
AGREE = 10  # steps after which several processes ask each other whether to stop


class Pace:
    """Decides between the steps of a run.

    Args:
        ranks: the processes of the run.
        seconds: the longest time between two checkpoints.
    """

    ranks: Ranks
    seconds: float

    def __init__(self, ranks: Ranks, seconds: float) -> None:
        self.ranks, self.seconds = ranks, seconds
        self._asked = 0

    def start(self) -> None:
        """Count the time to the next checkpoint from now on."""
        self._saved, self._saving = time.monotonic(), 0.0

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A checkpoint is written meanwhile."""
        began = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._saving = self._saved - began

    def due(self, end_of_epoch: bool, end_of_stage: bool) -> bool:
        """Whether a checkpoint is due: after some time, at the end of a stage, and at an epoch's
        end where it costs little."""
        since = time.monotonic() - self._saved
        cheap = end_of_epoch and (end_of_stage or since >= SHARE * self._saving)
        return cheap or since >= self.seconds

    def agreed(self, due: bool, stop: bool, at_once: bool) -> tuple[bool, bool]:
        """Whether a checkpoint is ``due``, and whether to ``stop``.

        Several processes ask each other, ``at_once`` or every so many calls: the first knows what
        is due, and any may have been asked to stop.
        """
        if not self.ranks.several:
            return due, stop
        self._asked += 1
        if not at_once and self._asked % AGREE:
            return False, False
        due, stop = self.ranks.agree(due and self.ranks.first, stop)
        return due, stop
