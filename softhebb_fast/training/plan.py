"""Which stages a run has, and in which order: its mode as a list."""

from __future__ import annotations

from typing import NamedTuple

from softhebb_fast.models import SoftHebbNet
from softhebb_fast.presets import Preset
from softhebb_fast.training.config import RunConfig


class PlannedStage(NamedTuple):
    """A stage that is made when its turn comes.

    Attributes:
        hebbian: the blocks that learn without labels; if there are none, labels teach.
        frozen: the blocks below what labels teach.
        together: the Hebbian blocks learn in the same pass.
        alone: only the block ``frozen`` learns from labels.
    """

    hebbian: tuple[int, ...] = ()
    frozen: int = 0
    together: bool = False
    alone: bool = False


def plan(net: SoftHebbNet, config: RunConfig) -> list[PlannedStage]:
    """The stages of a run in their order."""
    hebbian, depth = net.hebbian_blocks, len(net.blocks)
    unsupervised = bool(hebbian and config.unsup_epochs)
    if config.mode == "simultaneous":
        return [PlannedStage(together=True)]
    if config.mode == "consecutive":
        first = [PlannedStage(tuple(hebbian))] if unsupervised else []
        frozen = next((i for i in range(depth) if i not in hebbian), depth)
        return [*first, PlannedStage(frozen=frozen)]
    stages = [
        PlannedStage((i,)) if i in hebbian else PlannedStage(frozen=i, alone=True)
        for i in range(depth)
        if unsupervised or i not in hebbian
    ]
    return [*stages, PlannedStage(frozen=depth)]


def is_perceptron(preset: Preset) -> bool:
    """Whether one Hebbian layer of neurons stands below the classifier, and nothing else."""
    kinds = [layer.kind for layer in preset.layers]
    return kinds == ["linear", "linear"] and preset.layers[0].hebbian
