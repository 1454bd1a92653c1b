"""Progress on the terminal, and figures for TensorBoard."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from softhebb_fast.training.loop import Loop
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.reporter import Reporter

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TWICE = 2.0  # seconds between two signals that are one


class Bars(Reporter):
    """Progress bars with rate and remaining time; scalars in the folder ``tensorboard``, if given.

    Raises ValueError if ``tensorboard`` is given and the package is not installed.
    """

    quiet: bool
    bar: tqdm[NoReturn] | None
    writer: SummaryWriter | None

    def __init__(self, quiet: bool = False, tensorboard: Path | None = None) -> None:
        self.quiet, self.bar = quiet, None
        self.writer = None if tensorboard is None else _writer(tensorboard)

    def begin(self, title: str, total: int, done: int = 0, unit: str = "img") -> None:
        self.end()
        self.bar = tqdm(
            total=total,
            initial=done,
            desc=title,
            unit=unit,
            mininterval=0.1 if sys.stderr.isatty() else 10,
            disable=self.quiet,
        )

    def advance(self, count: int) -> None:
        self.bar.update(count)

    def status(self, text: str) -> None:
        self.bar.set_postfix_str(text, refresh=False)

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def say(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def record(self, row: MetricsRow) -> None:
        if self.writer is None:
            return
        where = f"layer {row['layer']}" if "layer" in row else "classifier"
        for name, value in row.items():
            if name not in ("phase", "layer", "epoch", "seconds"):
                # TensorBoard's steps are whole numbers, and layers record ten times an epoch.
                self.writer.add_scalar(f"{where}/{name}", value, round(100 * row["epoch"]))
        self.writer.flush()


@contextmanager
def stops_on_interrupt(trainer: Loop) -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, stop ``trainer`` after its step, and the second Ctrl-C at
    once. ``torchrun`` hands its processes the first one twice."""
    several, asked = trainer.ranks.several, -math.inf

    def stop(number: int, frame: object) -> None:
        nonlocal asked
        if trainer.stop_requested:
            if number == signal.SIGINT and not (several and time.monotonic() - asked < TWICE):
                raise KeyboardInterrupt
            return
        trainer.stop_requested, asked = True, time.monotonic()
        if trainer.ranks.first:
            tqdm.write("stopping after this step (again to stop at once)", file=sys.stderr)

    previous = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


def _writer(folder: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            f"tensorboard needs a package that is not installed ({error}): "
            "pip install softhebb_fast[tensorboard]"
        ) from error
    return SummaryWriter(folder)
