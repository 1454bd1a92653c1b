"""What a stage learns from: images through the blocks below it, cached where they fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from softhebb_fast.data import ImageSet
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.features import (
    CachedFeatures,
    FeatureSet,
    cache_features,
    feature_bytes,
    fits,
)
from softhebb_fast.training.finite import NotFinite
from softhebb_fast.training.ranks import ALONE, Ranks
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.stage import BatchSource


class Caching(NamedTuple):
    """How features are kept: what of a ``RunConfig`` is read here."""

    cache_dtype: str
    cache_gib: float


class StageInputs:
    """Makes the inputs of the stages of a run, one after the other.

    The features of one set of images are kept between stages: those above are computed from them.
    """

    net: SoftHebbNet
    config: RunConfig | Caching
    reporter: Reporter
    ranks: Ranks

    def __init__(
        self,
        net: SoftHebbNet,
        config: RunConfig | Caching,
        reporter: Reporter,
        ranks: Ranks = ALONE,
    ) -> None:
        self.net, self.config, self.reporter, self.ranks = net, config, reporter, ranks
        self._kept: CachedFeatures | None = None

    def below(
        self, depth: int, images: ImageSet, on_batch: Callable[[int], None], *, keep: bool = True
    ) -> BatchSource:
        """``images`` through the first ``depth`` blocks: cached if it fits, else batch by batch.

        With ``keep`` the features are kept for the next stage, which may take them as they are or
        go on from there. ``on_batch`` hears of the size of
        each batch of features.
        """
        below = self._blocks(depth)
        keep = keep and self.net.readout is None
        if not below:
            return BatchSource(images, [], ranks=self.ranks)
        kept = self._kept
        if keep and kept is not None and kept.images is images and kept.depth == depth:
            return BatchSource(kept.features, [], ranks=self.ranks)
        gib = self._gib(images, below)
        if gib > self.config.cache_gib:
            self._kept = None
            self.reporter.say(
                f"the features of the {images.split} images would take {gib:.1f} GiB, more than "
                f"cache_gib={self.config.cache_gib:g}: they are computed again for every batch"
            )
            return BatchSource(images, below, ranks=self.ranks)
        dtype = getattr(torch, self.config.cache_dtype)
        self.reporter.begin(f"features of the {images.split} images", len(images))
        cache = self._kept_features if keep else cache_features
        try:
            cached = cache(images, below, dtype, on_batch, ranks=self.ranks)
        except ValueError as error:
            name = f"layer {depth + 1}" if depth < len(self.net.blocks) else "the classifier"
            hint = " (cache_dtype=float16 ends at 65504)" * (dtype == torch.float16)
            raise NotFinite(
                f"what {name} learns from, the {images.split} images through the layers below: "
                f"{error}{hint}"
            ) from error
        self.reporter.end()
        return BatchSource(cached, [], ranks=self.ranks)

    def caches(self, depth: int, images: ImageSet) -> bool:
        """Whether ``below`` caches the features of ``images``."""
        below = self._blocks(depth)
        return bool(below) and self._gib(images, below) <= self.config.cache_gib

    def forget(self) -> None:
        """Give the features of earlier stages back."""
        self._kept = None

    def _blocks(self, depth: int) -> list[nn.Module]:
        top = depth == len(self.net.blocks)
        return self.net.below_head if top else list(self.net.blocks[:depth])

    def _gib(self, images: ImageSet, below: list[nn.Module]) -> float:
        self.net.eval()
        return feature_bytes(images, below, getattr(torch, self.config.cache_dtype)) / 2**30

    def _kept_features(
        self,
        images: ImageSet,
        below: list,
        dtype: torch.dtype,
        on_batch: Callable[[int], None],
        ranks: Ranks,
    ) -> FeatureSet:
        """The features, made in the place of those of an earlier stage where they fit there."""
        kept, self._kept = self._kept, None
        rest = below if kept is None else below[kept.depth :]
        if kept is None or kept.images is not images or not fits(kept.features, rest):
            del kept
            cached = cache_features(images, below, dtype, on_batch, ranks=ranks)
        else:
            given = kept.features, rest, dtype, on_batch
            cached = cache_features(*given, in_place=True, ranks=ranks)
        if dtype == torch.float32:
            self._kept = CachedFeatures(images, len(below), cached)
        return cached
