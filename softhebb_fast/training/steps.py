"""A stage's steps: launched one by one, or captured in a CUDA graph and replayed.

At the published batch of 10 a step is some dozens of kernels of a few microseconds, so that the
host that launches them decides the time. A graph of many steps is one launch: it gathers the next
batches of the data set on the device, learns from them and moves on, and nothing comes from the
host. Replayed and launched steps do the same work in the same order and give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from softhebb_fast.data import ImageSet, batches
from softhebb_fast.environment import switched_on
from softhebb_fast.ops.gather import gather
from softhebb_fast.training.capture import WARM_UP, GraphCapture, announcement
from softhebb_fast.training.features import Samples
from softhebb_fast.training.fused_classifier import ClassifierStage, ClassifierSteps
from softhebb_fast.training.solved_stage import SolvedStage, SolvedSteps
from softhebb_fast.training.stage import Stage

VARIABLE = "SOFTHEBB_FAST_GRAPHS"
STEPS = 20  # of a graph


def runner(
    stage: Stage,
    say: Callable[[str], None] = lambda text: None,
    *,
    eager: type[EagerSteps] | None = None,
    graph: type[GraphSteps] | None = None,
) -> EagerSteps | ClassifierSteps | SolvedSteps:
    """How to walk ``stage``: from a graph where its images are on a CUDA device.

    ``eager`` and ``graph`` are the kinds of steps, if they are not those of one run.
    ``say`` hears why not, where a graph could have been hoped for. ``SOFTHEBB_FAST_GRAPHS=0``
    turns graphs off.

    Raises ValueError if that variable is neither 0 nor 1.
    """
    wanted = switched_on(VARIABLE, default=True)
    if isinstance(stage, SolvedStage):
        return SolvedSteps(stage, say)
    device = stage.inputs.source.device
    captures = wanted and device.type == "cuda" and stage.captured
    if isinstance(stage, ClassifierStage):
        return ClassifierSteps(stage, GraphCapture(device) if captures else None, say)
    eager, graph = eager or EagerSteps, graph or GraphSteps
    if not captures:
        return eager(stage)
    reason = stage.why_not_capture()
    if reason is not None:
        say(f"{announcement(stage)}: {reason}")
        return eager(stage)
    return graph(stage, say)


class Walker(Protocol):
    """Walks a stage: ``EagerSteps`` says how."""

    def walk(self, order: Tensor, start: int, first: int, seeds: tuple[int, int]) -> Iterator[int]:
        """How many images each step, or walk of steps, has learned from."""


class EagerSteps:
    """Steps launched one by one."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def walk(
        self, order: Tensor, start: int = 0, first: int = 0, seeds: tuple[int, int] | None = None
    ) -> Iterator[int]:
        """Learn from the images in ``order``, batch by batch; yields how many after each step.

        Args:
            order: int64 ``[N]``, a permutation of the stage's images.
            start: batches to skip.
            first: number in the stage of this walk's batch 0.
            seeds: seed and epoch of the augmentation, if the stage has one.
        """
        inputs, size = self.stage.inputs, self.stage.batch_size
        ranks = inputs.ranks
        walk = batches(
            inputs.source,
            size,
            order=order,
            start_batch=start,
            augment=inputs.augment,
            augment_seed=seeds if inputs.augment else None,
            part=ranks.part if ranks.several else None,
        )
        for batch, (x, labels) in enumerate(walk, start):
            count = len(labels)
            if ranks.several:
                count = min(size, len(order) - batch * size)
                self.stage.share(count)
            self.stage.step(first + batch, x, labels)
            yield count


class GraphSteps(EagerSteps):
    """Steps replayed from CUDA graphs; a last batch that is not full is launched.

    The first steps are launched too, as a capture needs. It is repeated when a rate changes, and
    where it fails, ``say`` hears why and all further steps are launched.
    """

    say: Callable[[str], None]
    recorder: GraphCapture
    order: Tensor
    constants: tuple[Tensor | None, Tensor | None]
    finish: Callable[[Tensor], Tensor]
    position: Tensor
    lrs: Tensor
    launched: int
    failed: bool

    def __init__(
        self, stage: Stage, say: Callable[[str], None], recorder: GraphCapture | None = None
    ) -> None:
        super().__init__(stage)
        device = stage.inputs.source.device
        self.say, self.recorder = say, recorder or GraphCapture(device)
        self.order = torch.empty(len(stage.inputs.source), dtype=torch.int64, device=device)
        self.constants = constants(stage.inputs.source)
        self.finish = finish(stage.inputs.source)
        self.position = torch.zeros((), dtype=torch.int64, device=device)
        # Exact, as the host's floats are.
        self.lrs = torch.zeros(STEPS, len(stage.decaying), dtype=torch.float64, device=device)
        self.launched, self.failed = 0, False
        self.rates: tuple[float, ...] = ()
        self.replays: dict[int, Callable[[], None]] = {}

    def walk(
        self, order: Tensor, start: int = 0, first: int = 0, seeds: tuple[int, int] | None = None
    ) -> Iterator[int]:
        stage, size = self.stage, self.stage.batch_size
        full, number = len(order) // size, start
        self.order.copy_(order)
        self.position.fill_(start * size)
        while number < full:
            stage.prepare(first + number)
            steps = self._advance(first + number, stage.until_record(number, full))
            number += steps
            yield steps * size
        rest = self.order[full * size :]
        if len(rest):
            stage.step(first + full, *stage.inputs.source.batch(rest))
            yield len(rest)

    def work(self, steps: int = 1) -> None:
        """What a graph holds: learn from the batches from ``position`` on, and move on."""
        for i in range(steps):
            with self.stage.reading(self.lrs.select(0, i)):
                self.stage.learn(*self.batch(i))
        self.position += steps * self.stage.batch_size

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        """The ``i``-th of the batches from ``position`` on."""
        size, source = self.stage.batch_size, self.stage.inputs.source
        rows = source.images, source.labels, self.order, self.position, *self.constants
        x, labels = gather(*rows, i * size, size)
        return self.finish(x), labels

    def _advance(self, number: int, most: int) -> int:
        """Do up to ``most`` steps from the ``number``-th of the stage on; returns how many."""
        replays = self.launched >= WARM_UP and not self.failed
        steps = STEPS if replays and most >= STEPS else 1
        if self.stage.decaying:
            self.lrs[:steps] = torch.tensor(self.stage.decayed(number, steps), dtype=torch.float64)
        if not replays:
            self.launched += 1
            self.recorder.launch(self.work)
            return 1
        if self.rates != self.stage.rates():
            self.replays, self.rates = {}, self.stage.rates()
        if steps not in self.replays:
            try:
                self.replays[steps] = self.recorder.record(partial(self.work, steps))
            except RuntimeError as error:
                self.failed = True
                self.say(f"{announcement(self.stage)}: its capture failed ({error})")
                return self._advance(number, most)
        self.replays[steps]()
        return steps


def constants(source: Samples) -> tuple[Tensor | None, Tensor | None]:
    """Mean and std of the source's images of bytes as tensors on its device, if it has them."""
    whole = isinstance(source, ImageSet) and source.images.dtype == torch.uint8
    if not whole or source.mean is None:
        return None, None
    return tuple(torch.tensor(v, device=source.device) for v in (source.mean, source.std))


def finish(source: Samples) -> Callable[[Tensor], Tensor]:
    """What is left to do where images are floats, to which ``gather`` does nothing."""
    floats = isinstance(source, ImageSet) and source.images.dtype != torch.uint8
    return source.normalised_ if floats else lambda x: x
