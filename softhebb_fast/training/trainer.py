"""Training a network of Hebbian layers from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import methodcaller
from typing import Any, NamedTuple

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
from softhebb_fast.training.features import FeatureSet, cache_features, feature_bytes, fits
from softhebb_fast.training.fused_classifier import ClassifierStage
from softhebb_fast.training.loop import Loop
from softhebb_fast.training.stages import BatchSource, HebbianStage, Stage, SupervisedStage


class CachedFeatures(NamedTuple):
    """Features of images after so many blocks."""

    images: ImageSet
    depth: int
    features: FeatureSet


class Trainer(Loop):
    """Train the network of a ``RunConfig``: its Hebbian layers, then what learns from labels.

    Arguments, files and errors are those of ``Loop``.
    """

    config: RunConfig
    net: SoftHebbNet
    _kept: CachedFeatures | None = None

    def summary(self) -> dict[str, Any]:
        """The last test accuracy and loss, the seconds taken, and each layer's last figures."""
        layers = {row["layer"]: row for row in self.rows if "layer" in row}
        result = super().summary() | {"layers": list(layers.values())}
        if _is_perceptron(self.net):
            layer = nn.Sequential(self.net.blocks[0].norm, self.net.blocks[0].layer)
            classes = self.train_set.num_classes
            result["neuron_accuracy"] = neuron_accuracy(
                layer, self.train_set, self.test_set, classes
            )
        return result

    def _check(self, device: torch.device) -> None:
        config = self.config
        config.network()
        self.augment = published_augmentation(config.dataset) if config.augment else None
        resolve(config.backend, device)
        if reason := precision.why_not(config.precision, device.type):
            raise RuntimeError(
                f"precision={config.precision!r} cannot be had on device {device.type!r}: "
                f"{reason}. Use precision='ieee'."
            )

    def _settings(self) -> AbstractContextManager:
        return precision.use(self.config.precision)

    def _load_data(self, device: torch.device) -> None:
        super()._load_data(device)
        config = self.config
        options = {"root": self.root, "device": device, "limit": config.limit}
        unlabelled = protocol(config.dataset).unlabelled and config.unsup_epochs > 0
        self.unsup_set = (
            load(config.dataset, "unlabeled", **options) if unlabelled else self.train_set
        )

    def _stages(self) -> list[Callable[[Loop], Stage]]:
        hebbian, depth = self.net.hebbian_blocks, len(self.net.blocks)
        unsupervised = bool(hebbian and self.config.unsup_epochs)
        if self.config.mode == "simultaneous":
            return [methodcaller("_supervised", 0, together=True)]
        if self.config.mode == "consecutive":
            frozen = next((i for i in range(depth) if i not in hebbian), depth)
            plan = [methodcaller("_hebbian", hebbian)] if unsupervised else []
            return [*plan, methodcaller("_supervised", frozen)]
        plan = [
            methodcaller("_hebbian", [i])
            if i in hebbian
            else methodcaller("_supervised", i, alone=True)
            for i in range(depth)
            if unsupervised or i not in hebbian
        ]
        return [*plan, methodcaller("_supervised", depth)]

    def _hebbian(self, group: list[int]) -> Stage:
        inputs = self._inputs(self.unsup_set, group[0])
        epochs, batch = self.config.unsup_epochs, self.config.unsup_batch
        return HebbianStage(self.net, inputs, self.unsup_set, group, epochs, batch)

    def _supervised(self, frozen: int, together: bool = False, alone: bool = False) -> Stage:
        config = self.config
        if config.augment:
            inputs = BatchSource(self.train_set, list(self.net.blocks[:frozen]), self.augment)
        else:
            inputs = self._inputs(self.train_set, frozen)
        test = self._inputs(self.test_set, frozen)
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
            together,
            alone,
            config.autocast,
        )

    def _inputs(self, images: ImageSet, depth: int) -> BatchSource:
        """``images`` through the first ``depth`` blocks: cached if it fits, else batch by batch."""
        below = list(self.net.blocks[:depth])
        if not below:
            return BatchSource(images, [])
        self.net.eval()
        dtype = getattr(torch, self.config.cache_dtype)
        gib = feature_bytes(images, below, dtype) / 2**30
        if gib > self.config.cache_gib:
            self._kept = None
            self.reporter.say(
                f"the features of the {images.split} images would take {gib:.1f} GiB, more than "
                f"cache_gib={self.config.cache_gib:g}: they are computed again for every batch"
            )
            return BatchSource(images, below)
        self.reporter.begin(f"features of the {images.split} images", len(images))
        cached = self._cached(images, below, dtype)
        self.reporter.end()
        return BatchSource(cached, [])

    def _cached(self, images: ImageSet, below: list, dtype: torch.dtype) -> FeatureSet:
        """The features, computed from those of an earlier stage and in their place where that is
        possible: the same bits, without the blocks below and without room for both."""
        if images is self.test_set:
            return cache_features(images, below, dtype, self._advance)
        kept, self._kept = self._kept, None
        rest = below if kept is None else below[kept.depth :]
        if kept is None or kept.images is not images or not fits(kept.features, rest):
            del kept
            cached = cache_features(images, below, dtype, self._advance)
        else:
            cached = cache_features(kept.features, rest, dtype, self._advance, in_place=True)
        if dtype == torch.float32:
            self._kept = CachedFeatures(images, len(below), cached)
        return cached


def _is_perceptron(net: nn.Module) -> bool:
    layers = [layer.kind for layer in net.preset.layers]
    return layers == ["linear", "linear"] and net.preset.layers[0].hebbian
