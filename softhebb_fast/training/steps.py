"""A stage's steps: launched one by one, or captured in a CUDA graph and replayed.

At the published batch of 10 a step is some dozens of kernels of a few microseconds, so that the
host that launches them decides the time. A graph is one launch: it gathers the next batch of the
data set on the device, learns from it and moves on by one batch, and nothing comes from the host.
Replayed and launched steps do the same work in the same order and give the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from softhebb_fast.data import batches
from softhebb_fast.training.stages import Stage

VARIABLE = "SOFTHEBB_FAST_GRAPHS"
WARM_UP = 3  # steps launched before the capture, in which kernels are compiled and states made


def runner(stage: Stage, say: Callable[[str], None] = lambda text: None) -> EagerSteps:
    """How to walk ``stage``: from a graph where its images are on a CUDA device.

    ``say`` hears why not, where a graph could have been hoped for. ``SOFTHEBB_FAST_GRAPHS=0``
    turns graphs off.

    Raises ValueError if that variable is neither 0 nor 1.
    """
    wanted = os.environ.get(VARIABLE, "1")
    if wanted not in ("0", "1"):
        raise ValueError(f"{VARIABLE} must be 0 or 1; got {wanted!r}")
    if wanted == "0" or stage.inputs.source.device.type != "cuda":
        return EagerSteps(stage)
    reason = stage.why_not_capture()
    if reason is not None:
        say(f"{_announcement(stage)}: {reason}")
        return EagerSteps(stage)
    return GraphSteps(stage, say)


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
        inputs = self.stage.inputs
        walk = batches(
            inputs.source,
            self.stage.batch_size,
            order=order,
            start_batch=start,
            augment=inputs.augment,
            augment_seed=seeds if inputs.augment else None,
        )
        for number, (x, labels) in enumerate(walk, first + start):
            self.stage.step(number, x, labels)
            yield len(labels)


class GraphSteps(EagerSteps):
    """Steps replayed from a CUDA graph; a last batch that is not full is launched.

    The first steps are launched too, as a capture needs. It is repeated when a rate changes, and
    where it fails, ``say`` hears why and all further steps are launched.
    """

    def __init__(
        self, stage: Stage, say: Callable[[str], None], recorder: GraphCapture | None = None
    ) -> None:
        super().__init__(stage)
        device = stage.inputs.source.device
        self.say, self.recorder = say, recorder or GraphCapture(device)
        self.order = torch.empty(len(stage.inputs.source), dtype=torch.int64, device=device)
        self.window = torch.arange(stage.batch_size, device=device)
        self.position = torch.zeros((), dtype=torch.int64, device=device)
        self.launched, self.failed = 0, False
        self.rates: tuple[float, ...] = ()
        self.replay: Callable[[], None] | None = None

    def walk(
        self, order: Tensor, start: int = 0, first: int = 0, seeds: tuple[int, int] | None = None
    ) -> Iterator[int]:
        stage, size = self.stage, self.stage.batch_size
        full = len(order) // size
        self.order.copy_(order)
        self.position.fill_(start * size)
        for number in range(start, full):
            stage.prepare(first + number)
            self._step()
            yield size
        rest = self.order[full * size :]
        if len(rest):
            stage.step(first + full, *stage.inputs.source.batch(rest))
            yield len(rest)

    def work(self) -> None:
        """What the graph holds: learn from the batch at ``position``, and move on."""
        index = self.order.index_select(0, self.position + self.window)
        self.stage.learn(*self.stage.inputs.source.batch(index))
        self.position += self.stage.batch_size

    def _step(self) -> None:
        if self.launched < WARM_UP or self.failed:
            self.launched += 1
            self.recorder.launch(self.work)
            return
        if self.replay is None or self.rates != self.stage.rates():
            self.replay, self.rates = None, self.stage.rates()
            try:
                self.replay = self.recorder.record(self.work)
            except RuntimeError as error:
                self.failed = True
                self.say(f"{_announcement(self.stage)}: its capture failed ({error})")
                return self._step()
        self.replay()


class GraphCapture:
    """Launches work on a stream of its own, or records it there in a CUDA graph."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def launch(self, work: Callable[[], None]) -> None:
        """Do ``work``, after all that the current stream was asked for and before what follows."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture ``work`` without doing it; returns what does it. RuntimeError if it cannot be."""
        graph = torch.cuda.CUDAGraph()
        # The outer context restores the current stream, which a capture that fails does not.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self.stream.device)),
            torch.cuda.graph(graph, stream=self.stream),
        ):
            work()
        return graph.replay


def _announcement(stage: Stage) -> str:
    return f"the steps of {stage.title} are launched one by one, not replayed from a CUDA graph"
