"""What a block gets from the images before it learns: its whitening, and a start made of data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from softhebb_fast.data import batches
from softhebb_fast.data.walk import seeded
from softhebb_fast.init.registry import sample_size
from softhebb_fast.models import SoftHebbNet, features, whitening
from softhebb_fast.nn import PatchWhitening
from softhebb_fast.nn.moments import Moments
from softhebb_fast.nn.starts import seen, start
from softhebb_fast.training.features import CHUNK
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.ranks import ALONE
from softhebb_fast.training.stage import BatchSource, Stage

PER_IMAGE = 20  # patches of an image to start from, where it has so many
LEAST = 1000  # images to start from, where there are so many


class Preparation(Stage):
    """One pass over the images, or over the first of their order, that looks and does not learn.

    Batches are of one size, so that sums have the same bits however a run is stopped. Of several
    processes each looks at all of them, and so they have the bits of one.
    """

    captured = False
    slow = True
    block: nn.Module
    index: int

    def __init__(self, net: SoftHebbNet, inputs: BatchSource, block: int, samples: int | None):
        super().__init__(net, replace(inputs, ranks=ALONE), 1, CHUNK, [], samples)
        self.block, self.index = net.blocks[block], block
        net.eval()

    @torch.no_grad()
    def learn(self, x: Tensor, labels: Tensor) -> None:
        self.look(features(self.inputs.below, x))

    def look(self, x: Tensor) -> None:
        """Take in a batch of what the block sees."""
        raise NotImplementedError


class WhiteningStage(Preparation):
    """The block's whitening gets the mean and covariance of its patches."""

    phase = "whitening"

    def __init__(self, net: SoftHebbNet, inputs: BatchSource, block: int, seed: int) -> None:
        super().__init__(net, inputs, block, net.preset.layers[block].whiten.images)
        self.whitening: PatchWhitening | None = whitening(self.block)
        self.moments: Moments = self.whitening.moments()

    @property
    def title(self) -> str:
        return f"whitening of layer {self.index + 1}"

    def look(self, x: Tensor) -> None:
        self.whitening.observe(self.moments, x)

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        self.whitening.solve(self.moments)
        return []

    def state_dict(self) -> dict[str, Any]:
        return self.moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.moments.load_state_dict(state)


class StartStage(Preparation):
    """The block's layer starts from patches of the images.

    An image gives 20 of them, or fewer where there are more images than are needed.
    """

    phase = "start"

    def __init__(self, net: SoftHebbNet, inputs: BatchSource, block: int, seed: int) -> None:
        net.eval()
        layer = net.blocks[block].layer
        self.wanted: int = sample_size(layer.init, len(layer.weight))
        a_sample = self._from_an_image(net.blocks[block], inputs)
        super().__init__(net, inputs, block, max(LEAST, -(-self.wanted // a_sample)))
        self.generator: torch.Generator = seeded("start", seed, block)
        self.patches: Tensor = layer.weight.new_empty(0, layer.weight[0].numel())
        self.looked: int = 0

    @staticmethod
    @torch.no_grad()
    def _from_an_image(block: nn.Module, inputs: BatchSource) -> int:
        """How many patches an image may give: all that the layer sees of it, or ``PER_IMAGE``."""
        images, _ = next(batches(inputs.source, 2))
        x, wanted = features(inputs.below, images), PER_IMAGE * len(images)
        return max(1, len(seen(block, x, wanted, torch.Generator())) // len(images))

    @property
    def title(self) -> str:
        return f"start of layer {self.index + 1}"

    def look(self, x: Tensor) -> None:
        before, self.looked = self.looked, self.looked + len(x)
        share = self.wanted * self.looked // self.samples - self.wanted * before // self.samples
        self.patches = torch.cat([self.patches, seen(self.block, x, share, self.generator)])

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        start(self.block.layer, self.patches, self.generator)
        return []

    def state_dict(self) -> dict[str, Any]:
        generator = self.generator.get_state()
        return {"patches": self.patches, "looked": self.looked, "generator": generator}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.patches, self.looked = state["patches"].to(self.patches), state["looked"]
        self.generator.set_state(state["generator"])


PREPARATIONS = {stage.phase: stage for stage in (WhiteningStage, StartStage)}
