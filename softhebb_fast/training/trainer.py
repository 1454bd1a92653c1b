"""Training a network of Hebbian layers from its configuration."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from softhebb_fast import precision
from softhebb_fast.backends import resolve
from softhebb_fast.data import ImageSet, load
from softhebb_fast.data.walk import Augmentation
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.presets import protocol
from softhebb_fast.training import fused_classifier
from softhebb_fast.training.classifier import neuron_accuracy
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.fused_classifier import ClassifierStage
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.images import reading_options
from softhebb_fast.training.inputs import Caching, StageInputs
from softhebb_fast.training.loop import Loop
from softhebb_fast.training.plan import PlannedStage, is_perceptron, plan
from softhebb_fast.training.preparation import PREPARATIONS
from softhebb_fast.training.solved_stage import SolvedStage
from softhebb_fast.training.stage import BatchSource, Stage
from softhebb_fast.training.supervised_stage import SupervisedStage


class Trainer(Loop):
    """Train the network of a ``RunConfig``: its Hebbian layers, then what learns from labels.

    After ``config``, ``arguments`` and ``options`` are those of ``Loop`` (``out``, ``root``,
    ``reporter``, ``checkpoint_seconds``), and so are files and errors.
    """

    config: RunConfig
    net: SoftHebbNet
    augment: Augmentation | None
    unsup_set: ImageSet

    def __init__(self, config: RunConfig, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._inputs = StageInputs(self.net, self.config, self.reporter, self.ranks)
        if self.ranks.several and self.config.tie_rule == "spread":
            self.reporter.say(
                "tie_rule=spread: each process counts the positions of its own part, so that ties "
                "fall otherwise than in one process"
            )

    def share_cache(self, gib: float) -> None:
        """Keep features in ``gib`` instead of ``cache_gib``; give back what is kept now."""
        self._inputs.forget()
        self._inputs.config = Caching(self.config.cache_dtype, gib)

    def fuses(self, planned: PlannedStage) -> bool:
        """Whether the stage ``planned`` is a classifier's, made by a CUDA device's own kernels."""
        config, depth = self.config, len(self.net.blocks)
        if planned.hebbian or planned.prepares or planned.frozen < depth:
            return False
        if config.solver is not None or config.augment or self.net.views.several or config.autocast:
            return False
        if not fused_classifier.fits(self.net.head, self.train_set.device, config.backend):
            return False
        return all(self._inputs.caches(depth, s) for s in (self.train_set, self.test_set))

    def summary(self) -> dict[str, Any]:
        """That of ``Loop``; of a perceptron also its accuracy by the winner's label."""
        result = super().summary()
        if is_perceptron(self.net.preset):
            first = self.net.blocks[0]
            layer, classes = nn.Sequential(first.norm, first.layer), self.train_set.num_classes
            accuracy = neuron_accuracy(layer, self.train_set, self.test_set, classes)
            result["neuron_accuracy"] = accuracy
        return result

    def _check(self, device: torch.device) -> None:
        config = self.config
        _check_classifier(config)
        if self.ranks.several and config.classifier == "softmax":
            raise ValueError(
                f"classifier='softmax' learns in one process; got {self.ranks.size}: take "
                "classifier='ridge'"
            )
        self.augment = config.augmentation()
        resolve(config.backend, device)
        precision.require(config.precision, device.type)

    def settings(self) -> AbstractContextManager[Any]:
        return precision.use(self.config.precision)

    def _load_data(self, device: torch.device) -> None:
        super()._load_data(device)
        self.unsup_set = self.train_set
        if protocol(self.config.dataset).unlabelled and self.config.unsup_epochs > 0:
            options = reading_options(self.config, self.train_set.like)
            place = {"root": self.root, "device": device}
            self.unsup_set = load(self.dataset, "unlabeled", **place, **options)

    def _sets(self) -> dict[str, ImageSet]:
        own = {} if self.unsup_set is self.train_set else {"unlabeled": self.unsup_set}
        return {**super()._sets(), **own}

    def _planned(self) -> list[PlannedStage]:
        return plan(self.net, self.config)

    def _make(self, planned: PlannedStage) -> Stage:
        config = self.config
        if planned.prepares:
            kind = PREPARATIONS[planned.prepares]
            inputs = self._inputs.below(planned.frozen, self.unsup_set, self._advance)
            return kind(self.net, inputs, planned.frozen, config.seed)
        if planned.hebbian:
            inputs = self._inputs.below(planned.hebbian[0], self.unsup_set, self._advance)
            epochs, batch = config.unsup_epochs, config.unsup_batch
            blocks = list(planned.hebbian)
            return HebbianStage(self.net, inputs, self.unsup_set, blocks, epochs, batch)
        frozen, top = planned.frozen, planned.frozen == len(self.net.blocks)
        images = self.train_set.mirrored() if config.flips else self.train_set
        if (settings := config.solver) is not None:
            self._inputs.forget()
            return SolvedStage(
                self.net,
                BatchSource(images, self.net.below_head, self.augment, self.ranks),
                BatchSource(self.test_set, [], ranks=self.ranks),
                settings,
                config.probe_epochs,
                config.probe_batch,
                config.test_batch,
                config.seed,
                copies=1 + config.flips,
            )
        if config.augment:
            below = self.net.below_head if top else list(self.net.blocks[:frozen])
            inputs = BatchSource(images, below, self.augment, self.ranks)
        else:
            inputs = self._inputs.below(frozen, images, self._advance)
        if self.net.views.several:
            test = BatchSource(self.test_set, self.net.below_head, ranks=self.ranks)
        else:
            test = self._inputs.below(frozen, self.test_set, self._advance, keep=False)
        if self.fuses(planned):
            epochs, batch = config.probe_epochs, config.probe_batch
            return ClassifierStage(self.net, inputs, test, epochs, batch, config.seed)
        return SupervisedStage(
            self.net,
            inputs,
            test,
            self.train_set,
            frozen,
            config.probe_epochs,
            config.probe_batch,
            config.test_batch,
            planned.together,
            planned.alone,
            config.autocast,
        )


def _check_classifier(config: RunConfig) -> None:
    """Raise ValueError unless the network has what the run's classifier needs."""
    *body, last = config.network().layers
    given = {
        "classifier": config.solver is not None,
        "features": config.features is not None,
        "flips": config.flips,
        "shifts": config.shifts > 0,
    }
    name = next((name for name, asked in given.items() if asked), None)
    if name is None:
        return
    if config.mode == "simultaneous" or not all(layer.hebbian for layer in body):
        raise ValueError(
            f"{name} is for a classifier of layers that are trained before it, without labels; got "
            f"{config.preset} in mode={config.mode!r}"
        )
    if config.solver is not None and last.rule != "bp":
        raise ValueError(
            f"classifier={config.classifier!r} takes the place of a last layer that learns by "
            f"'bp'; that of {config.preset} learns by {last.rule!r}"
        )
