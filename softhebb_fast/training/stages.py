"""The stages of a run: what is trained, on which inputs, by which rule, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from softhebb_fast.backends import choose
from softhebb_fast.data.walk import Augmentation
from softhebb_fast.models import SoftHebbNet, features
from softhebb_fast.nn import Dropout, HebbianLinear, SoftHebbLinear
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.plain import heard
from softhebb_fast.optim import Constant, ExponentialDecay, LinearDecay, halving_schedule
from softhebb_fast.presets import TAUGHT, Layer
from softhebb_fast.training.classifier import (
    evaluate,
    hebbian_label_step,
    shared_step,
    supervised_step,
)
from softhebb_fast.training.features import Samples
from softhebb_fast.training.metrics import MetricsRow, layer_rows
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

    def _layer(self, index: int) -> HebbianLayer:
        return self.net.blocks[index].layer if index < len(self.net.blocks) else self.net.head[-1]


class HebbianStage(Stage):
    """Hebbian blocks learn: one of them, or several in the same pass.

    Those whose rule is one of ``TAUGHT`` are told the labels, the others learn without.
    """

    phase = "hebbian"
    records = 10
    sample: Samples
    trained: list[int]
    taught: set[int]
    refresh: Callable[[], None] | None = None  # brings the network up to date, if need be

    def __init__(
        self,
        net: SoftHebbNet,
        inputs: BatchSource,
        sample: Samples,
        trained: list[int],
        epochs: int,
        batch_size: int,
    ) -> None:
        super().__init__(net, inputs, epochs, batch_size, trained)
        self.sample, self.trained = sample, trained
        self.taught = {i for i in trained if net.preset.layers[i].rule in TAUGHT}
        net.eval()
        for i in trained:
            net.blocks[i].train()

    @property
    def title(self) -> str:
        return f"layer {', '.join(str(i + 1) for i in self.trained)}"

    @torch.no_grad()
    def learn(self, x: Tensor, labels: Tensor) -> None:
        first, last = self.trained[0], self.trained[-1]
        x = features(self.inputs.below, x)
        for i in range(first, last):
            x = self._through(i, x, labels)
        if last in self.taught:
            self._through(last, x, labels)
        else:
            self.net.blocks[last].step_(x)

    def _through(self, i: int, x: Tensor, labels: Tensor) -> Tensor:
        block = self.net.blocks[i]
        return block(x, target=labels) if i in self.taught else block(x)

    def begin(self) -> list[MetricsRow]:
        return self.record(0)

    def record(self, epoch: float) -> list[MetricsRow]:
        self.state_dict()
        return layer_rows(self.net, self.sample, self.trained, self.phase, epoch)

    def state_dict(self) -> dict[str, Any]:
        """Nothing; the network is brought up to date where its blocks learn elsewhere."""
        if self.refresh is not None:
            self.refresh()
        return {}

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        return self.record(epoch)


class SupervisedStage(Stage):
    """The classifier, and the blocks from ``frozen`` on that learn by backpropagation, learn from
    labels.

    With ``together`` the Hebbian blocks learn in the same pass. With ``alone`` only the block
    ``frozen`` learns, through what is above it, which stays as it started and in evaluation mode.
    ``autocast`` as in ``RunConfig``.
    """

    hebbian: list[int]
    learns_labels: bool
    phase: str
    test: BatchSource
    sample: Samples
    test_batch: int
    model: nn.Sequential
    optimizer: torch.optim.Adam
    scheduler: torch.optim.lr_scheduler.MultiStepLR
    loss: Tensor
    correct: Tensor
    seen: Tensor

    def __init__(
        self,
        net: SoftHebbNet,
        inputs: BatchSource,
        test: BatchSource,
        sample: Samples,
        frozen: int,
        epochs: int,
        batch_size: int,
        test_batch: int,
        together: bool = False,
        alone: bool = False,
        autocast: bool = False,
    ) -> None:
        self.hebbian = net.hebbian_blocks if together else []
        self.learns_labels = isinstance(net.head[-1], SoftHebbLinear) and not alone
        by_schedule = [*self.hebbian, len(net.blocks)] if self.learns_labels else self.hebbian
        super().__init__(net, inputs, epochs, batch_size, by_schedule)
        self.phase = "simultaneous" if together else f"layer {frozen + 1}" if alone else "probe"
        self.test, self.sample, self.test_batch = test, sample, test_batch
        self.autocast = autocast
        self.model = nn.Sequential(*net.blocks[frozen:], *net.head)
        net.eval()
        above = [
            net.blocks[i] for i in range(frozen, len(net.blocks)) if i not in net.hebbian_blocks
        ]
        learning = above[:1] if alone else [*above, net.head]
        for module in (*above, net.head):
            module.requires_grad_(module in learning)
        for module in (*learning, *(net.blocks[i] for i in self.hebbian)):
            module.train()
        if self.learns_labels and not isinstance(net.head[-1], HebbianLinear):
            net.head[-1].eval()
        parameters = [p for m in learning for p in m.parameters()]
        device = inputs.source.device
        self.optimizer = torch.optim.Adam(
            parameters,
            lr=net.preset.lr_supervised,
            capturable=device.type == "cuda",
            fused=True if device.type == "cpu" else None,
        )
        self.scheduler = halving_schedule(self.optimizer, epochs)
        # Changed in place only: a CUDA graph adds to them.
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.seen = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def title(self) -> str:
        return {"simultaneous": "all layers", "probe": "classifier"}.get(self.phase, self.phase)

    def rates(self) -> tuple[float, ...]:
        return (*super().rates(), *(group["lr"] for group in self.optimizer.param_groups))

    def learn(self, x: Tensor, labels: Tensor) -> None:
        x = features(self.inputs.below, x)
        together, images = self.ranks.several, len(labels)
        if self.learns_labels:
            loss, correct = hebbian_label_step(self.model, self.model[-1].lr, x, labels)
            if together:
                self.ranks.add_((loss, correct))
        elif together:
            given = self.model, self.optimizer, x, labels, self.whole, self.ranks
            loss, correct = shared_step(*given, self.autocast)
        else:
            loss, correct = supervised_step(self.model, self.optimizer, x, labels, self.autocast)
        self.loss += loss
        self.correct += correct
        self.seen += self.whole if together else images

    def begin(self) -> list[MetricsRow]:
        layers = layer_rows(self.net, self.sample, self.hebbian, self.phase, 0)
        tested = [{"phase": self.phase, "epoch": 0, **self._tested()}] if self._cheap else []
        return [*layers, *tested]

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        if not self.learns_labels:
            self.scheduler.step()
        seen = max(int(self.seen), 1)
        row: MetricsRow = {
            "phase": self.phase,
            "epoch": epoch,
            "train_loss": float(self.loss) / seen,
            "train_accuracy": 100 * float(self.correct) / seen,
        }
        if self._cheap or epoch in (1, self.epochs) or epoch % 10 == 0:
            row |= self._tested()
        for counter in (self.loss, self.correct, self.seen):
            counter.zero_()
        layers = layer_rows(self.net, self.sample, self.hebbian, self.phase, epoch)
        return [*layers, row]

    @property
    def _cheap(self) -> bool:
        """Whether a test needs no more than the classifier on features that are there."""
        return not self.test.below and len(self.model) == len(self.net.head)

    def _tested(self) -> MetricsRow:
        whole = getattr(self.net, "mirror", False)  # which takes images, and two of each
        model = self.net if whole else nn.Sequential(*self.test.below, *self.model)
        loss, accuracy = evaluate(model, self.test.source, self.test_batch, ranks=self.test.ranks)
        return {"test_loss": loss, "test_accuracy": accuracy}

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "loss": self.loss,
            "correct": self.correct,
            "seen": self.seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        for name in ("loss", "correct", "seen"):
            getattr(self, name).copy_(state[name])


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
