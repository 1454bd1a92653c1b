"""The stage in which Hebbian blocks learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from softhebb_fast.models import SoftHebbNet, features
from softhebb_fast.presets import TAUGHT
from softhebb_fast.training.features import Samples
from softhebb_fast.training.metrics import MetricsRow, layer_rows
from softhebb_fast.training.stage import BatchSource, Stage


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

    def stand_alone(self) -> None:
        self.refresh = None

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        return self.record(epoch)
