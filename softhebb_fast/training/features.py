"""Frozen features of a data set, computed once and kept: what a classifier learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format

from softhebb_fast.data import ImageSet, batches
from softhebb_fast.models import Readout, features
from softhebb_fast.nn import HebbianLayer
from softhebb_fast.nn.folding import folded_once
from softhebb_fast.training.ranks import ALONE, Ranks

CHUNK = 500
MAPS_BYTES = 2 << 30  # what the maps of images that pass together may take, and their temporaries
# The same on the CPU: a map beyond 32 MiB gets fresh pages from malloc at every use, and filling
# these takes longer than computing with them.
HOST_MAPS_BYTES = 96 << 20
CACHE_BYTES = 8 << 30  # the same while features are cached: published networks keep their chunks
TEMPORARIES = 4  # maps of the size of u that a layer has at once


class FeatureSet:
    """Frozen features of a data set: ``images`` ``[N, ...]`` in any dtype, ``labels`` ``[N]``.

    Walked by ``data.batches`` like an ``ImageSet``. Its batches have the memory format of
    ``images``: the order of sums depends on it, and with it the last bits of what follows.
    """

    split = "given"
    images: Tensor
    labels: Tensor

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self._last = suggest_memory_format(images) == torch.channels_last

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def device(self) -> torch.device:
        return self.images.device

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Features float32 ``[B, ...]`` and labels of the given rows."""
        images = self.images.movedim(1, -1) if self._last else self.images
        if isinstance(indices, slice):
            x, labels = images[indices].contiguous(), self.labels[indices]
        else:
            x, labels = images.index_select(0, indices), self.labels.index_select(0, indices)
        return (x.movedim(-1, 1) if self._last else x).float(), labels


Samples = ImageSet | FeatureSet


class CachedFeatures(NamedTuple):
    """Features of images after so many blocks."""

    images: ImageSet
    depth: int
    features: FeatureSet


def feature_bytes(source: Samples, blocks: list[nn.Module], dtype: torch.dtype) -> int:
    """The memory that ``cache_features`` would take."""
    x, _ = source.batch(slice(0, 1))
    return len(source) * features(blocks, x).numel() * dtype.itemsize


@torch.no_grad()
def cache_features(
    source: Samples,
    blocks: list[nn.Module],
    dtype: torch.dtype = torch.float32,
    on_batch: Callable[[int], None] = lambda count: None,
    *,
    in_place: bool = False,
    ranks: Ranks = ALONE,
) -> FeatureSet:
    """``blocks`` applied to all of ``source``, in order. ``on_batch`` hears of each batch's size.

    The blocks must be in evaluation mode. The batch size is fixed and the memory format is that
    which the blocks give, so that a cache made again after an interruption has the same bits, be
    it made of the images or of a cache below.

    Raises ValueError, with the number of the image, if its features are not finite.

    Args:
        in_place: let the features take the place of ``source``, itself a cache that nobody needs
            any more, in its dtype. They must not be more (``fits``).
        ranks: they take the batches in turn and give each other what they found. ``on_batch`` is
            called after each round, by all of them.
    """
    images, sound = None, []
    chunk = images_at_once(blocks, source.batch(slice(0, 1))[0], CHUNK, CACHE_BYTES)
    starts = range(0, len(source), chunk)
    for first in range(0, len(starts), ranks.size):
        together = starts[first : first + ranks.size]
        own = first + ranks.rank if ranks.rank < len(together) else None
        if own is not None or images is None:  # who has none learns of the shape
            x = features(blocks, next(batches(source, chunk, start_batch=own or 0))[0])
        if images is None:
            shape, layout = (len(source), *x.shape[1:]), suggest_memory_format(x)
            images = (
                _within(source.images, shape, layout)
                if in_place
                else torch.empty(shape, dtype=dtype, device=x.device, memory_format=layout)
            )
        if own is not None:
            rows = images[starts[own] : starts[own] + chunk]
            rows.copy_(x)
            sound.append(rows.isfinite().all())
        for owner, start in enumerate(together if ranks.several else ()):
            _spread(ranks, images[start : start + chunk], owner)
        on_batch(min(chunk * len(together), len(source) - together[0]))
    unsound = bool(sound) and not torch.stack(sound).all()  # waits for the device once
    if any(ranks.agree(unsound)) if ranks.several else unsound:
        _raise_not_finite(images)
    return FeatureSet(images, source.labels)


@torch.no_grad()
def images_at_once(
    modules: Iterable[nn.Module], x: Tensor, most: int, most_bytes: int | None = None
) -> int:
    """How many images may pass ``modules`` together, ``most`` or fewer.

    As many as their largest maps leave room for in ``most_bytes``: if left out, ``HOST_MAPS_BYTES``
    on the CPU and ``MAPS_BYTES`` elsewhere; of wide layers a few. ``x`` has one such image at
    least; the modules must be in evaluation mode.
    """
    modules, largest = list(modules), [0]
    watched = [
        part
        for module in modules
        for block in (module.blocks if isinstance(module, Readout) else [module])
        for part in block.modules()
    ]
    if not any(isinstance(part, nn.modules.conv._ConvNd | HebbianLayer) for part in watched):
        return most

    def measure(module: nn.Module, given: object, found: object) -> None:
        if isinstance(found, Tensor):
            largest.append(found.numel() * found.element_size())

    handles = [part.register_forward_hook(measure) for part in watched]
    try:
        features(modules, x[:1])
    finally:
        for handle in handles:
            handle.remove()
    room = most_bytes or (HOST_MAPS_BYTES if x.device.type == "cpu" else MAPS_BYTES)
    return max(1, min(most, room // (TEMPORARIES * max(1, *largest))))


@torch.no_grad()
def flat_features(modules: Sequence[nn.Module], x: Tensor, most: int) -> Tensor:
    """What ``modules`` in evaluation mode make of images ``x``, ``most`` at a time: ``[B, F]``."""
    with folded_once():
        return torch.cat([features(modules, part).flatten(1) for part in x.split(most)])


def fits(source: FeatureSet, blocks: list[nn.Module]) -> bool:
    """Whether the features of ``source`` have room in its place, sample by sample."""
    x, _ = source.batch(slice(0, 1))
    return features(blocks, x).numel() <= x.numel()


def _spread(ranks: Ranks, rows: Tensor, owner: int) -> None:
    """Give the others the ``rows`` that the process ``owner`` has found."""
    last = rows.movedim(1, -1) if suggest_memory_format(rows) == torch.channels_last else rows
    whole = last.contiguous()
    ranks.spread(whole, owner)
    if whole.data_ptr() != last.data_ptr():
        last.copy_(whole)


def _raise_not_finite(images: Tensor) -> None:
    for i, image in enumerate(images):
        if not image.isfinite().all():
            raise ValueError(f"features must be finite; those of image {i} are not")


def _within(images: Tensor, shape: tuple[int, ...], layout: torch.memory_format) -> Tensor:
    row = torch.empty((1, *shape[1:]), device="meta", memory_format=layout)
    return images.as_strided(shape, (images.stride(0), *row.stride()[1:]))
