"""Training an ordinary network by backpropagation, with the parts of every other run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from softhebb_fast.data import ImageSet, permutation
from softhebb_fast.optim import Milestones, gradient_noise
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.classifier import evaluate, supervised_step
from softhebb_fast.training.features import Samples
from softhebb_fast.training.loop import Loop
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.stage import BatchSource, Stage


class BackpropStage(Stage):
    """All of a network learns from labels."""

    phase = "backprop"
    title = "backpropagation"
    records: int
    config: BackpropConfig
    test: Samples
    rate: Milestones
    totals: Tensor

    def __init__(
        self, net: nn.Module, inputs: BatchSource, test: Samples, config: BackpropConfig
    ) -> None:
        self.records = config.records
        super().__init__(net, inputs, config.epochs, config.batch, [])
        self.config, self.test = config, test
        options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
        if config.optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), **options)
        else:
            options["momentum"] = config.momentum
            self.optimizer = torch.optim.SGD(net.parameters(), **options)
        if config.gradient_noise:
            gradient_noise(self.optimizer, config.gradient_noise)
        milestones = tuple(epoch * self.per_epoch for epoch in config.milestones)
        warm_up = config.warm_up * self.per_epoch
        self.rate = Milestones(config.lr, milestones, config.factor, warm_up)
        # Loss, correct answers and images since the last record.
        self.totals = torch.zeros(3, dtype=torch.float64, device=inputs.source.device)
        net.train()

    def prepare(self, number: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(number)

    def learn(self, x: Tensor, labels: Tensor) -> None:
        config = self.config
        found = supervised_step(self.net, self.optimizer, x, labels, config.autocast, config.loss)
        self.totals[:2] += torch.stack([value.double() for value in found])
        self.totals[2] += len(labels)

    def why_not_capture(self) -> str:
        return "networks that learn by backpropagation alone are not captured"

    def record(self, epoch: float) -> list[MetricsRow]:
        loss, correct, seen = self.totals.tolist()
        self.totals.zero_()
        row = {"train_loss": loss / max(seen, 1), "train_accuracy": 100 * correct / max(seen, 1)}
        return [{"phase": self.phase, "epoch": epoch} | row]

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        [row] = self.record(epoch)
        if epoch in (1, self.epochs) or epoch % self.config.test_every == 0:
            with self.config.testing(self.net):
                loss, accuracy = evaluate(self.net, self.test, self.config.test_batch)
            row |= {"test_loss": loss, "test_accuracy": accuracy}
        return [row]

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "totals": self.totals}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.totals.copy_(state["totals"])


class BackpropTrainer(Loop):
    """Train the network of a ``BackpropConfig`` by backpropagation.

    Arguments, files and errors are those of ``Loop``.
    """

    config: BackpropConfig
    train_set: ImageSet
    test_set: ImageSet

    def _check(self, device: torch.device) -> None:
        if self.ranks.several:
            raise ValueError(
                "networks that learn by backpropagation alone are trained in one process; got "
                f"{self.ranks.size} of torch.distributed"
            )

    def _load_data(self, device: torch.device) -> None:
        super()._load_data(device)
        config, images = self.config, self.train_set
        if config.images is not None and config.limit is None:
            if config.images > len(images):
                raise ValueError(
                    f"images must be at most {len(images)}, the training images of "
                    f"{config.dataset}; got {config.images}"
                )
            images = images.subset(permutation(len(images), config.seed)[: config.images])
        self.train_set = config.prepared(images)
        self.test_set = config.prepared(self.test_set)

    def _planned(self) -> list[str]:
        return [BackpropStage.phase]

    def _make(self, planned: str) -> Stage:
        inputs = BatchSource(self.train_set, [], self.config.augmentation())
        return BackpropStage(self.net, inputs, self.test_set, self.config)

    def _order(self, samples: int, epoch: int) -> Tensor:
        return permutation(samples, self.config.seed, epoch * self.config.reshuffle)

    @contextmanager
    def settings(self) -> Iterator[None]:
        backend, wanted = torch.backends.cudnn, self.config.deterministic
        with backend.flags(enabled=True, benchmark=True, deterministic=wanted):
            yield
