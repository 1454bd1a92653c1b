"""The stage in which the classifier, or blocks by backpropagation, learn from labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from softhebb_fast.models import SoftHebbNet, features
from softhebb_fast.models.views import AS_IT_IS
from softhebb_fast.nn import HebbianLinear, SoftHebbLinear
from softhebb_fast.optim import halving_schedule
from softhebb_fast.training.classifier import (
    evaluate,
    hebbian_label_step,
    shared_step,
    supervised_step,
)
from softhebb_fast.training.features import Samples
from softhebb_fast.training.metrics import MetricsRow, layer_rows
from softhebb_fast.training.stage import BatchSource, Stage


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
        whole = getattr(self.net, "views", AS_IT_IS).several  # which takes the images themselves
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
