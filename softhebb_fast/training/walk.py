"""The walk through a stage: its steps, what is recorded between them, and the watch over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from softhebb_fast.training.finite import Guard
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.stage import Stage
from softhebb_fast.training.steps import Walker


class Place(NamedTuple):
    """A pause of the walk.

    Attributes:
        epoch, batch: how far the stage is.
        images: how many were learned from since the last pause: none before an epoch.
        end: whether an epoch has ended here.
    """

    epoch: int
    batch: int
    images: int
    end: bool


def walk(
    stage: Stage,
    runner: Walker,
    guard: Guard,
    record: Callable[[list[MetricsRow]], None],
    reporter: Reporter,
    epoch: int = 0,
    batch: int = 0,
) -> Iterator[Place]:
    """Make the steps of ``stage`` by ``runner``, from ``batch`` of ``epoch`` on.

    It pauses before every epoch, after every walk of steps, and at the end of an epoch. Figures go
    to ``record`` at the start, at the marks of the stage and at the ends of epochs, each time after
    ``guard`` has looked at the weights.

    Raises NotFinite for weights that are no finite numbers.
    """
    per_epoch = stage.per_epoch
    guard.keep(epoch, batch)
    if not (epoch or batch):
        record(stage.begin())
    while epoch < stage.epochs:
        order = guard.order(epoch)
        yield Place(epoch, batch, 0, False)
        for images in runner.walk(order, batch, epoch * per_epoch, (guard.seed, epoch)):
            batch += -(-images // stage.batch_size)
            reporter.advance(images)
            if batch in stage.marks:
                guard.check(epoch, batch)
                record(stage.record(epoch + batch / per_epoch))
                guard.keep(epoch, batch)
            yield Place(epoch, batch, images, False)
        guard.check(epoch, batch)
        epoch, batch = epoch + 1, 0
        record(stage.end_epoch(epoch))
        guard.keep(epoch, 0)
        yield Place(epoch, 0, 0, True)
