"""Training a network of Hebbian layers from its configuration."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from softhebb_fast import precision
from softhebb_fast.backends import resolve
from softhebb_fast.data import ImageSet, load, published_augmentation
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.presets import protocol
from softhebb_fast.training import fused_classifier
from softhebb_fast.training.classifier import neuron_accuracy
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.fused_classifier import ClassifierStage
from softhebb_fast.training.images import reading_options
from softhebb_fast.training.inputs import StageInputs
from softhebb_fast.training.loop import Loop
from softhebb_fast.training.plan import PlannedStage, is_perceptron, plan
from softhebb_fast.training.preparation import PREPARATIONS
from softhebb_fast.training.stages import BatchSource, HebbianStage, Stage, SupervisedStage


class Trainer(Loop):
    """Train the network of a ``RunConfig``: its Hebbian layers, then what learns from labels.

    After ``config``, ``arguments`` and ``options`` are those of ``Loop`` (``out``, ``root``,
    ``reporter``, ``checkpoint_seconds``), and so are files and errors.
    """

    config: RunConfig
    net: SoftHebbNet

    def __init__(self, config: RunConfig, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._inputs = StageInputs(self.net, self.config, self.reporter)

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
        config.network()
        self.augment = published_augmentation(config.dataset) if config.augment else None
        resolve(config.backend, device)
        precision.require(config.precision, device.type)

    def _settings(self) -> AbstractContextManager:
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
        frozen = planned.frozen
        if config.augment:
            inputs = BatchSource(self.train_set, list(self.net.blocks[:frozen]), self.augment)
        else:
            inputs = self._inputs.below(frozen, self.train_set, self._advance)
        test = self._inputs.below(frozen, self.test_set, self._advance, keep=False)
        alone_on_top = frozen == len(self.net.blocks) and not config.autocast
        if alone_on_top and fused_classifier.fits(self.net, inputs, test, config.backend):
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
