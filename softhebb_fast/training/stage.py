"""A stage of a run: what it learns from, at which rates, and when it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from softhebb_fast.backends import choose
from softhebb_fast.data.walk import Augmentation
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.nn import Dropout
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.plain import heard
from softhebb_fast.optim import Constant, ExponentialDecay, LinearDecay
from softhebb_fast.presets import Layer
from softhebb_fast.training.features import Samples
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.ranks import ALONE, Ranks


@dataclass
class BatchSource:
    """Where a stage's batches come from: ``below`` is applied to the batches of ``source``, of
    which each of ``ranks`` has a part."""

    source: Samples
    below: list[nn.Module]
    augment: Augmentation | None = None
    ranks: Ranks = ALONE


class Stage:
    """One part of a run: ``epochs`` passes of ``step`` over ``inputs``.

    ``samples`` are how many of the inputs, in the order of the epoch, a pass takes: all, or fewer.
    ``captured`` tells whether steps may be recorded in a CUDA graph. ``records`` is how often an
    epoch is recorded, after the batches ``marks`` of ``per_epoch`` and the last time by
    ``end_epoch``. ``slow`` steps may take seconds each.
    """

    phase: str
    records = 1
    captured = True
    slow = False
    net: SoftHebbNet
    inputs: BatchSource
    samples: int
    epochs: int
    batch_size: int
    per_epoch: int
    marks: list[int]
    schedules: dict[int, Callable[[int], float]]
    decaying: list[int]

    def __init__(
        self,
        net: SoftHebbNet,
        inputs: BatchSource,
        epochs: int,
        batch_size: int,
        trained: list[int],
        samples: int | None = None,
    ) -> None:
        self.net, self.inputs = net, inputs
        self.samples = min(samples or len(inputs.source), len(inputs.source))
        self.epochs, self.batch_size = epochs, batch_size
        self.per_epoch = -(-self.samples // batch_size)
        marks = (self.per_epoch * i // self.records for i in range(1, self.records))
        self.marks = sorted({*marks} - {0})
        steps = max(1.0, epochs * self.samples / batch_size)
        self.schedules = {i: _schedule(net.preset.layers[i], steps) for i in trained}
        self.decaying = [i for i, s in self.schedules.items() if not isinstance(s, Constant)]

    @property
    def title(self) -> str:
        raise NotImplementedError

    @property
    def ranks(self) -> Ranks:
        """The processes that make the steps together."""
        return self.inputs.ranks

    def share(self, images: int) -> None:
        """Make ready for a step on this process's part of a batch of so many ``images``."""
        self.whole = images
        for module in self.net.modules():
            if isinstance(module, Dropout):
                module.place = self.ranks.part(images).start, images

    def step(self, number: int, x: Tensor, labels: Tensor) -> None:
        """Learn from one batch, the ``number``-th of the stage."""
        self.prepare(number)
        self.learn(x, labels)

    def prepare(self, number: int) -> None:
        """Set what the host decides about the ``number``-th step: the ``rates``."""
        for i, schedule in self.schedules.items():
            self._layer(i).lr = schedule(number)

    def learn(self, x: Tensor, labels: Tensor) -> None:
        """The step's work on the device, which waits for nothing and decides nothing."""
        raise NotImplementedError

    def rates(self) -> tuple[float, ...]:
        """The numbers of the host that ``learn`` reads: a CUDA graph holds for these.

        Rates that decay are none of them: a graph reads those from a tensor.
        """
        return tuple(self._layer(i).lr for i in self.schedules if i not in self.decaying)

    def decayed(self, first: int, steps: int) -> list[list[float]]:
        """The rates of ``decaying`` at so many steps from the ``first`` on."""
        return [[self.schedules[i](first + j) for i in self.decaying] for j in range(steps)]

    @contextmanager
    def reading(self, lrs: Tensor) -> Iterator[None]:
        """Let ``learn`` read the rates of ``decaying`` from a tensor of them."""
        layers = [self._layer(i) for i in self.decaying]
        kept = [layer.lr for layer in layers]
        try:
            for layer, lr in zip(layers, lrs, strict=True):
                layer.lr = lr
            yield
        finally:
            for layer, lr in zip(layers, kept, strict=True):
                layer.lr = lr

    def until_record(self, batch: int, end: int) -> int:
        """Steps from ``batch`` of an epoch on to the next of the marks, or to ``end``."""
        return next((mark for mark in self.marks if mark > batch), end) - batch

    def why_not_capture(self) -> str | None:
        """The reason why ``learn`` cannot be captured in a CUDA graph, or None."""
        if self.ranks.several:
            return "its processes send each other their sums in every step"
        if self.inputs.augment is not None:
            return "the images are augmented with random numbers of the CPU"
        if heard(*self.net.modules()):
            return "a module has hooks, which a replay would not call"
        if (own := next(filter(_runs_code_of_its_own, self.net.modules()), None)) is not None:
            return f"a replay would not call the forward of {type(own).__name__}, which is its own"
        for layer in self.net.modules():
            if not isinstance(layer, HebbianLayer) or not layer.learns:
                continue
            if layer.update != "in_place":
                return f"a layer hands its update to an optimizer (update={layer.update!r})"
            backend = layer.backend
            if backend == "auto":
                backend = choose(layer.weight.device.type, layer.weight.dtype, layer.tie_rule)
            if backend != "triton":
                return f"a layer learns by the backend {backend!r}"
        return None

    def begin(self) -> list[MetricsRow]:
        """What to record before the first step, as epoch 0."""
        return []

    def record(self, epoch: float) -> list[MetricsRow]:
        """What to record inside a pass, ``epoch`` passes (a fraction) after the beginning."""
        return []

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        """Close the ``epoch``-th pass (from 1) and return what to record."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def stand_alone(self) -> None:
        """Make the steps to come in the stage's own network, though others made those before."""

    def _layer(self, index: int) -> HebbianLayer:
        return self.net.blocks[index].layer if index < len(self.net.blocks) else self.net.head[-1]


def _runs_code_of_its_own(module: nn.Module) -> bool:
    """Whether a module's forward is neither this package's nor torch's."""
    package = str(getattr(type(module).forward, "__module__", "")).partition(".")[0]
    return "forward" in module.__dict__ or package not in ("softhebb_fast", "torch")


def _schedule(layer: Layer, total_steps: float) -> Callable[[int], float]:
    if layer.schedule == "linear":
        return LinearDecay(layer.lr, total_steps)
    if layer.schedule == "exponential":
        speed, divisor = (7.0, 96.0) if layer.kind == "conv" else (0.4, 100.0)
        return ExponentialDecay(layer.lr, total_steps, speed, divisor)
    return Constant(layer.lr)
