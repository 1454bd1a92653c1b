"""Which stages a run has, and in which order: its mode as a list."""

from __future__ import annotations

from typing import NamedTuple

from softhebb_fast.init import needs_data
from softhebb_fast.models import SoftHebbNet, whitening
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.starts import stands_still
from softhebb_fast.presets import Preset
from softhebb_fast.training.config import RunConfig


class PlannedStage(NamedTuple):
    """A stage that is made when its turn comes.

    Attributes:
        hebbian: the blocks that learn without labels; if there are none, labels teach.
        frozen: the blocks below what labels teach.
        together: the Hebbian blocks learn in the same pass.
        alone: only the block ``frozen`` learns from labels.
        prepares: ``"whitening"`` or ``"start"``, what the block ``frozen`` gets from the images.
    """

    hebbian: tuple[int, ...] = ()
    frozen: int = 0
    together: bool = False
    alone: bool = False
    prepares: str | None = None


def plan(net: SoftHebbNet, config: RunConfig) -> list[PlannedStage]:
    """The stages of a run in their order.

    Raises ValueError where the images tell how a block starts, but not in this mode, or where it
    would start so that it never learns.
    """
    hebbian, depth = net.hebbian_blocks, len(net.blocks)
    learns = config.unsup_epochs or config.mode == "simultaneous"
    prepared = [_prepared(net, i, bool(learns)) for i in range(depth)]
    if config.mode != "successive" and any(prepared[1:]):
        raise ValueError(
            "mode must be 'successive' where whitening, or a start from patches, comes after the "
            f"first layer: it needs the layers below as they will be; got {config.mode!r}"
        )
    at_first = prepared[0] if depth else []
    unsupervised = bool(hebbian and config.unsup_epochs)
    if config.mode == "simultaneous":
        return [*at_first, PlannedStage(together=True)]
    if config.mode == "consecutive":
        first = [PlannedStage(tuple(hebbian))] if unsupervised else []
        frozen = next((i for i in range(depth) if i not in hebbian), depth)
        return [*at_first, *first, PlannedStage(frozen=frozen)]
    stages = []
    for i in range(depth):
        stages += prepared[i]
        if i not in hebbian:
            stages.append(PlannedStage(frozen=i, alone=True))
        elif unsupervised:
            stages.append(PlannedStage((i,)))
    return [*stages, PlannedStage(frozen=depth)]


def _prepared(net: SoftHebbNet, i: int, learns: bool) -> list[PlannedStage]:
    """What the images tell of block ``i`` before it learns."""
    layer = net.blocks[i].layer
    kinds = ["whitening"] if whitening(net.blocks[i]) is not None else []
    if isinstance(layer, HebbianLayer) and needs_data(layer.init):
        if learns and (still := stands_still(layer)):
            raise ValueError(f"layer {i + 1}: {still}")
        kinds.append("start")
    return [PlannedStage(frozen=i, prepares=kind) for kind in kinds]


def is_perceptron(preset: Preset) -> bool:
    """Whether one Hebbian layer of neurons stands below the classifier, and nothing else."""
    kinds = [layer.kind for layer in preset.layers]
    return kinds == ["linear", "linear"] and preset.layers[0].hebbian
