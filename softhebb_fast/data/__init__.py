"""Image data sets as whole tensors on the device, walked by permutation.

    train = load("cifar10", "train", device="cuda")
    for x, labels in batches(train, 10, order=permutation(len(train), seed=0)):
        ...                              # x float32 [10, 3, 32, 32] in [0, 1]

No per-sample Python and no worker processes: a batch is one gather from a tensor. Own images come
from a folder or a file of arrays by ``load``, from memory by ``from_arrays`` and ``from_dataset``.
"""

from __future__ import annotations

from softhebb_fast.data.arrays import from_arrays
from softhebb_fast.data.augment import GaussianNoise, RandomCropFlip, RandomResizedCropFlip
from softhebb_fast.data.catalog import (
    NAMES,
    canonical_name,
    load,
    load_pair,
    normalised,
    published_augmentation,
)
from softhebb_fast.data.given import as_image_set, from_dataset
from softhebb_fast.data.images import ImageSet
from softhebb_fast.data.reading import Reading
from softhebb_fast.data.sources import ROOT_VARIABLE, data_root
from softhebb_fast.data.walk import batches, permutation

__all__ = [
    "NAMES",
    "ROOT_VARIABLE",
    "GaussianNoise",
    "ImageSet",
    "RandomCropFlip",
    "RandomResizedCropFlip",
    "Reading",
    "as_image_set",
    "batches",
    "canonical_name",
    "data_root",
    "from_arrays",
    "from_dataset",
    "load",
    "load_pair",
    "normalised",
    "permutation",
    "published_augmentation",
]
