"""Whether a run is still made of finite numbers, and which batch ended that.

A step is not watched: weights are looked at where figures are recorded or a checkpoint is written.
If they are not finite there, the steps since the last sound state are made once more, one by one.
They give the same bits, so the first that does harm is found.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from softhebb_fast.data import batches
from softhebb_fast.models import features
from softhebb_fast.training import checkpoint, steps
from softhebb_fast.training.fused_classifier import ClassifierStage, ClassifierSteps
from softhebb_fast.training.stage import Stage


class NotFinite(ValueError):
    """Weights or inputs of a run have become infinite or NaN."""


def first_not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first that holds inf or NaN; waits once for the device."""
    floats = {name: t for name, t in tensors.items() if t.is_floating_point()}
    if not floats:
        return None
    sound = torch.stack([t.isfinite().all() for t in floats.values()]).tolist()
    return next((name for name, good in zip(floats, sound, strict=True) if not good), None)


class Guard:
    """Watches over the weights of ``net`` while ``stage`` trains it.

    ``order(epoch)`` gives the order of the samples; ``seed`` seeds the augmentation.
    """

    net: nn.Module
    stage: Stage
    order: Callable[[int], Tensor]
    seed: int
    sound: int
    position: tuple[int, int]
    kept: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]

    def __init__(
        self, net: nn.Module, stage: Stage, order: Callable[[int], Tensor], seed: int
    ) -> None:
        self.net, self.stage, self.order, self.seed = net, stage, order, seed
        self.sound = -1  # the batches of the stage after which all was finite

    def keep(self, epoch: int, batch: int) -> None:
        """Remember this state, after ``batch`` batches of ``epoch``, if it is sound.

        Raises NotFinite, naming the layer, if it is not.
        """
        state = self.stage.state_dict()  # brings the network up to date
        if (name := self._look(epoch, batch)) is not None:
            raise NotFinite(f"{_layer(name)} is not finite before batch {batch + 1}")
        self.position = epoch, batch
        self.kept = copy.deepcopy((state, self.net.state_dict(), checkpoint.rng_state()))

    def check(self, epoch: int, batch: int) -> None:
        """Raise NotFinite, naming the layer and the batch, if the weights are not finite there."""
        if (name := self._look(epoch, batch)) is not None:
            raise NotFinite(self._located(name))

    def _look(self, epoch: int, batch: int) -> str | None:
        """What is not finite after ``batch`` batches of ``epoch``; a place is looked at once."""
        at = epoch * self.stage.per_epoch + batch
        if at == self.sound:
            return None
        self.stage.state_dict()
        name = first_not_finite(self.net.state_dict())
        self.sound = at if name is None else -1
        return name

    def _located(self, name: str) -> str:
        stage, (epoch, start) = self.stage, self.position
        state, weights, rng = self.kept
        stage.stand_alone()
        self.net.load_state_dict(weights)
        stage.load_state_dict(state)
        checkpoint.restore_rng(rng)
        order, seeds = self.order(epoch), (self.seed, epoch)
        single = isinstance(stage, ClassifierStage)
        walker: Any = (
            ClassifierSteps(stage, None, lambda text: None) if single else steps.EagerSteps(stage)
        )
        first = epoch * stage.per_epoch
        for batch, _ in enumerate(walker.walk(order, start, first, seeds), start + 1):
            stage.state_dict()
            found = first_not_finite(self.net.state_dict())
            if found is not None:
                x = features(stage.inputs.below, self._images(order, batch - 1, seeds))
                sound = bool(x.isfinite().all())
                cause = (
                    "its input is finite; a smaller rate or another start may help"
                    if sound
                    else "its input is not finite"
                )
                return (
                    f"{_layer(found)} became infinite or NaN at batch {batch} of "
                    f"{stage.per_epoch} of epoch {epoch + 1} of {stage.title}: {cause}"
                )
        return (
            f"{_layer(name)} became infinite or NaN after batch {start + 1} of epoch {epoch + 1} "
            f"of {stage.title}; steps made once more do not show where"
        )

    def _images(self, order: Tensor, batch: int, seeds: tuple[int, int]) -> Tensor:
        inputs = self.stage.inputs
        size = self.stage.batch_size
        options = {"augment": inputs.augment, "augment_seed": seeds} if inputs.augment else {}
        walk = batches(inputs.source, size, order=order, start_batch=batch, **options)
        return next(walk)[0]


def _layer(name: str) -> str:
    """The layer of a network to which an entry of its state belongs, in words."""
    parts = name.split(".")
    if parts[0] == "blocks" and len(parts) > 1 and parts[1].isdigit():
        return f"layer {int(parts[1]) + 1} ({name})"
    return f"the classifier ({name})" if parts[0] == "head" else f"layer {name}"
