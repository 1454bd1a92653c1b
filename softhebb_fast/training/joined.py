"""A Hebbian stage of several runs in the same steps: each has its own batches and its own order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from softhebb_fast.models import SideBySide, features
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.ops.gather import gather
from softhebb_fast.training.capture import GraphCapture
from softhebb_fast.training.features import Samples
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.stage import BatchSource, Stage
from softhebb_fast.training.steps import EagerSteps, GraphSteps, constants, finish


class Beside:
    """What the stages of S runs learn from, side by side along channels."""

    def __init__(self, members: Sequence[BatchSource]) -> None:
        self.members: tuple[BatchSource, ...] = tuple(members)

    def __len__(self) -> int:
        return len(self.members[0].source)

    @property
    def device(self) -> torch.device:
        return self.members[0].source.device

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, S C, H, W]`` of the samples ``rows [B, S]``, and the labels of the first run."""
        found = [
            member.source.batch(own)
            for member, own in zip(self.members, rows.unbind(1), strict=True)
        ]
        return self.joined([x for x, _ in found]), found[0][1]

    def joined(self, batches: Sequence[Tensor]) -> Tensor:
        """The batches of all runs through the blocks below them, side by side."""
        pairs = zip(self.members, batches, strict=True)
        return torch.cat([features(member.below, x) for member, x in pairs], dim=1)


class JoinedStage(Stage):
    """The stages of several runs as one, whose network is ``joint``.

    Each of ``members`` brings its own network up to date before it looks at it.
    """

    phase = "hebbian"
    records: int = HebbianStage.records
    joint: SideBySide
    members: list[HebbianStage]
    inputs: BatchSource
    schedules: dict[int, Callable[[int], float]]
    decaying: list[int]

    def __init__(self, joint: SideBySide, members: list[HebbianStage]) -> None:
        first = members[0]
        self.joint, self.members = joint.train(), members
        self.net = joint
        self.inputs = BatchSource(Beside([member.inputs for member in members]), [])
        for name in ("samples", "epochs", "batch_size", "per_epoch", "marks"):
            setattr(self, name, getattr(first, name))
        each = [member.net.preset.layers for member in members]
        alike = [i for i in first.schedules if len({layers[i].lr for layers in each}) == 1]
        # Rates that differ are those of neurons, and stay.
        self.schedules = {i: first.schedules[i] for i in alike}
        self.decaying = first.decaying
        for index, member in enumerate(members):
            member.refresh = partial(joint.give_, index)

    @property
    def title(self) -> str:
        return f"{self.members[0].title} of {len(self.members)} runs"

    @torch.no_grad()
    def learn(self, x: Tensor, labels: Tensor) -> None:
        *through, last = self.joint.blocks
        for block in through:
            x = block(x)
        last.step_(x)

    def _layer(self, index: int) -> HebbianLayer:
        return self.joint.blocks[index - self.joint.first].layer


class JoinedSteps(EagerSteps):
    """Steps launched one by one; ``order`` is ``[N, S]``, a column a run."""

    def walk(
        self, order: Tensor, start: int = 0, first: int = 0, seeds: tuple[int, int] | None = None
    ) -> Iterator[int]:
        stage, size = self.stage, self.stage.batch_size
        order = order.to(stage.inputs.source.device)
        for batch in range(start, stage.per_epoch):
            rows = order[batch * size : (batch + 1) * size]
            stage.step(first + batch, *stage.inputs.source.batch(rows))
            yield len(rows)


class JoinedGraphSteps(GraphSteps):
    """Steps replayed from CUDA graphs; ``order`` is ``[N, S]``, a column a run."""

    order: Tensor
    each: list[tuple[Samples, tuple[Tensor | None, Tensor | None], Callable[[Tensor], Tensor]]]

    def __init__(
        self, stage: Stage, say: Callable[[str], None], recorder: GraphCapture | None = None
    ) -> None:
        super().__init__(stage, say, recorder)
        members = stage.inputs.source.members
        # A run's order is contiguous.
        self.order = self.order.new_empty(len(members), len(self.order)).t()
        self.each = [
            (member.source, constants(member.source), finish(member.source)) for member in members
        ]

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        size, found, labels = self.stage.batch_size, [], None
        for own, (source, own_constants, own_finish) in zip(
            self.order.unbind(1), self.each, strict=True
        ):
            rows = source.images, source.labels, own, self.position, *own_constants
            x, labels = gather(*rows, i * size, size)
            found.append(own_finish(x))
        return self.stage.inputs.source.joined(found), labels
