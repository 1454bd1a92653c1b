"""Image data sets as whole tensors on the device, walked by permutation.

    train = load("cifar10", "train", device="cuda")
    for x, labels in batches(train, 10, order=permutation(len(train), seed=0)):
        ...                              # x float32 [10, 3, 32, 32] in [0, 1]

No per-sample Python and no worker processes: a batch is one gather from a uint8 tensor.
"""

from __future__ import annotations

from softhebb_fast.data.augment import GaussianNoise, RandomCropFlip, RandomResizedCropFlip
from softhebb_fast.data.catalog import NAMES, load, published_augmentation
from softhebb_fast.data.images import ImageSet, batches, permutation
from softhebb_fast.data.sources import ROOT_VARIABLE, data_root

__all__ = [
    "NAMES",
    "ROOT_VARIABLE",
    "GaussianNoise",
    "ImageSet",
    "RandomCropFlip",
    "RandomResizedCropFlip",
    "batches",
    "data_root",
    "load",
    "permutation",
    "published_augmentation",
]
