"""The linear classifier on a CUDA device: a step is two launches, and many steps are one graph.

It learns what ``SupervisedStage`` does with the same head, by the same protocol: cross-entropy,
dropout, Adam, a rate that is halved. The masks come from another generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format

from softhebb_fast.backends import serves
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.nn import Dropout
from softhebb_fast.nn.plain import heard, plain
from softhebb_fast.optim import halving_epochs
from softhebb_fast.training.capture import WARM_UP, GraphCapture, announcement
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.stage import BatchSource, Stage

if TYPE_CHECKING:
    from softhebb_fast.kernels.classifier import State

MOST_STEPS = 128  # of a graph
MOST_CLASSES = 128
KEPT = ("weight", "weight_mean", "weight_square", "bias", "bias_mean", "bias_square", "totals")


def fits(head: nn.Sequential, device: torch.device, backend: str) -> bool:
    """Whether ``head`` is a linear classifier as the kernels of a CUDA ``device`` take it."""
    if device.type != "cuda" or not serves("triton", backend, device):
        return False
    if not is_linear_classifier(head):
        return False
    return head[-1].out_features <= MOST_CLASSES and head[-1].bias is not None


def is_linear_classifier(head: nn.Sequential) -> bool:
    """Whether a head is a linear layer of dropped-out features, and nobody hears its calls."""
    kinds = [type(module) for module in head]
    if kinds != [nn.Flatten, Dropout, nn.Linear] or heard(head) or not plain(*head):
        return False
    return head[1].p < 1


class ClassifierStage(Stage):
    """A head that ``fits`` learns from cached features. ``seed`` draws its masks.

    Of several processes each learns from all of every batch, with the same bits: the message of a
    step's gradients would take longer than the step.
    """

    phase = "probe"
    title = "classifier"
    kernels: ModuleType
    lr: float
    dropout: Dropout
    linear: nn.Linear
    x: Tensor
    test_x: Tensor
    labels: Tensor
    test_labels: Tensor
    halvings: list[int]
    state: State

    def __init__(
        self,
        net: SoftHebbNet,
        inputs: BatchSource,
        test: BatchSource,
        epochs: int,
        batch_size: int,
        seed: int,
    ) -> None:
        from softhebb_fast.kernels import classifier

        super().__init__(net, inputs, epochs, batch_size, [])
        self.kernels, self.lr = classifier, net.preset.lr_supervised
        _, self.dropout, self.linear = net.head
        net.eval()
        self.x, self.test_x = (_rows(s.source.images)[None] for s in (inputs, test))
        self.labels, self.test_labels = inputs.source.labels, test.source.labels
        self.halvings = halving_epochs(epochs)
        self.state = classifier.new_state(
            self._as_the_features_lie(self.linear.weight.detach()).flatten(1).clone()[None],
            self.linear.bias.detach().clone()[None],
            torch.tensor([_seed(seed)]),
            batch_size,
            epochs * self.per_epoch,
            self.dropout.p,
        )

    def prepare(self, number: int) -> None:
        halved = sum(number // self.per_epoch >= epoch for epoch in self.halvings)
        self.state.rate.fill_(self.lr * 0.5**halved)

    def learn_rows(self, order: Tensor, number: int, first: int, rows: int) -> None:
        """The ``number``-th step from the state's clock on: ``rows`` rows of ``order [E, N]``."""
        given = self.state, self.x, order, self.labels
        self.kernels.step(*given, number, first, rows, self.dropout.p)

    def begin(self) -> list[MetricsRow]:
        return [{"phase": self.phase, "epoch": 0, **self._tested()}]

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        loss, correct = self.state.totals.sum(dim=(0, 1)).tolist()
        self.state.totals.zero_()
        seen = len(self.labels)
        row = {"phase": self.phase, "epoch": epoch, "train_loss": loss / seen}
        return [row | {"train_accuracy": 100 * correct / seen, **self._tested()}]

    def _tested(self) -> MetricsRow:
        given = (self.state.weight, self.state.bias, self.test_x, self.test_labels)
        loss, correct = self.kernels.judge(*given)[0].tolist()
        tested = len(self.test_labels)
        return {"test_loss": loss / tested, "test_accuracy": 100 * correct / tested}

    def state_dict(self) -> dict[str, Any]:
        """The state of the steps so far; also brings the head up to them."""
        with torch.no_grad():
            weight = self._as_the_features_lie(self.linear.weight)
            weight.copy_(self.state.weight[0].view(weight.shape))
            self.linear.bias.copy_(self.state.bias[0])
        return {name: getattr(self.state, name).clone() for name in KEPT}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in KEPT:
            getattr(self.state, name).copy_(state[name])

    def move(self, x: Tensor, test_x: Tensor) -> None:
        """Let the features lie in ``x [1, N, F]`` and ``test_x`` from now on."""
        x.copy_(self.x)
        test_x.copy_(self.test_x)
        images = self.inputs.source.images
        lying = _as_they_lie(images, images)
        moved = x[0].view(lying.shape)
        self.inputs.source.images = moved if lying is images else moved.movedim(-1, 1)
        self.x, self.test_x = x, test_x

    def _as_the_features_lie(self, weight: Tensor) -> Tensor:
        """A view of the weight, as features: ``[K, ...]`` in the order of their memory."""
        images = self.inputs.source.images
        return _as_they_lie(images, weight.view(len(weight), *images.shape[1:]))


class ClassifierSteps:
    """Steps of a ``ClassifierStage``, many of them in a graph.

    The first steps are launched, as a capture needs; so are those that are left over, and all if
    there is no ``capture`` or it fails, of which ``say`` hears.
    """

    stage: ClassifierStage
    say: Callable[[str], None]
    order: Tensor
    graph_steps: int
    launched: int

    def __init__(
        self, stage: ClassifierStage, capture: GraphCapture | None, say: Callable[[str], None]
    ) -> None:
        self.stage, self.capture, self.say = stage, capture, say
        members, samples, _ = stage.x.shape
        self.order = torch.empty(members, samples, dtype=torch.int64, device=stage.x.device)
        full = len(stage.labels) // stage.batch_size
        self.graph_steps = min(
            range(1 + MOST_STEPS // 4, 1 + MOST_STEPS), key=lambda n: (full % n, -n)
        )
        self.launched = 0
        self.replay: Callable[[], None] | None = None

    def walk(
        self, order: Tensor, start: int = 0, first: int = 0, seeds: tuple[int, int] | None = None
    ) -> Iterator[int]:
        """As ``EagerSteps.walk``, several batches at a time. ``order`` is ``[N]``, or ``[N, E]``: a
        column a member."""
        stage, size = self.stage, self.stage.batch_size
        self.order.copy_(order.reshape(len(order), -1).t())
        stage.prepare(first + start)
        stage.state.clock[0].fill_(first + start)
        stage.state.clock[1].fill_(start * size)
        full, number = len(order) // size, start
        while number < full:
            steps = self.graph_steps if self._captures(full - number) else 1
            if steps > 1:
                self.replay()
            else:
                self._work(1)
                self.launched += 1
            number += steps
            yield steps * size
        if rest := len(order) - full * size:
            stage.learn_rows(self.order, 0, 0, rest)
            yield rest

    def _captures(self, left: int) -> bool:
        """Whether the next steps, of so many that are left, are a replay."""
        if self.capture is None or self.launched < WARM_UP or left < self.graph_steps:
            return False
        if self.replay is None:
            try:
                self.replay = self.capture.record(lambda: self._work(self.graph_steps))
            except RuntimeError as error:
                self.capture = None
                self.say(f"{announcement(self.stage)}: their capture failed ({error})")
        return self.replay is not None

    def _work(self, steps: int) -> None:
        for i in range(steps):
            self.stage.learn_rows(self.order, i, i * self.stage.batch_size, self.stage.batch_size)
        self.stage.state.clock[0] += steps
        self.stage.state.clock[1] += steps * self.stage.batch_size


def _rows(images: Tensor) -> Tensor:
    """``[N, F]``, as the features of each image lie in memory."""
    return _as_they_lie(images, images).flatten(1)


def _as_they_lie(images: Tensor, tensor: Tensor) -> Tensor:
    last = suggest_memory_format(images) == torch.channels_last
    return tensor.movedim(1, -1) if last else tensor


def _seed(seed: int) -> int:
    # A hash, because masks must not share a stream with the order of the images.
    digest = hashlib.blake2b(f"dropout {seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
