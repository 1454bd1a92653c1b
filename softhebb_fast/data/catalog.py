"""The data sets by name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from softhebb_fast.data.augment import GaussianNoise, RandomCropFlip, RandomResizedCropFlip
from softhebb_fast.data.images import ImageSet
from softhebb_fast.data.sets import DATA_SETS, DataSet, tree
from softhebb_fast.data.sources import data_root, holder, locate
from softhebb_fast.naming import did_you_mean

NAMES = tuple(DATA_SETS)
TREE_PREFIX = "imagefolder:"


def canonical_name(name: str) -> str:
    """``name`` as in ``NAMES``, or ``imagefolder:PATH`` with the whole path.

    Case, hyphens and underscores are free.

    Raises:
        TypeError: not a string.
        ValueError: an unknown name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string; got {name!r}")
    if name.lower().startswith(TREE_PREFIX) and name[len(TREE_PREFIX) :]:
        return TREE_PREFIX + str(Path(name[len(TREE_PREFIX) :]).expanduser().absolute())
    key = name.lower().replace("-", "").replace("_", "")
    if key not in DATA_SETS:
        known = ", ".join((*NAMES, f"{TREE_PREFIX}PATH"))
        hint = did_you_mean(name, NAMES)
        raise ValueError(f"name must be one of {known}; got {name!r}{hint}")
    return key


def load(
    name: str,
    split: str = "train",
    *,
    root: str | os.PathLike | None = None,
    download: bool = True,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    image_size: int | None = None,
) -> ImageSet:
    """Read a whole data set onto ``device``.

    Args:
        name: one of ``NAMES`` in any spelling ("CIFAR-10"), or ``imagefolder:PATH`` for a tree
            ``PATH/{train,test,val}/<class>/<image>``.
        split: ``"train"`` or ``"test"``; STL-10 also has ``"unlabeled"``, an image folder also
            ``"val"``. The test split of imagenette and imagenet, and that of a tree without a
            folder ``test``, is the folder ``val``.
        root: folder of the data sets; see ``data_root`` for the default and the layout's place.
        download: fetch what is missing, where an address is known.
        device: where the tensors go.
        limit: at most so many images: the first ones, or, of an image tree (which is sorted by
            class), evenly spread ones.
        image_size: for image trees only: images are scaled to it on their short side and cropped
            in the centre, 160 by default.

    Returns:
        An ``ImageSet``: MNIST and FashionMNIST [N, 1, 28, 28], CIFAR [N, 3, 32, 32] (CIFAR-100
        with its 100 fine labels), STL-10 [N, 3, 96, 96], trees [N, 3, image_size, image_size].
        Trees carry ImageNet's mean and std.

    Raises:
        TypeError: a name that is no string.
        ValueError: an unknown name or split, a bad ``root``, ``limit`` or ``image_size``, or a
            damaged file.
        FileNotFoundError: files that are missing and could not be downloaded.
    """
    name = canonical_name(name)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None for all images; got {limit}")
    data = _data_set(name)
    if image_size is not None and (data.image_size is None or image_size < 1):
        raise ValueError(
            f"image_size must be positive and is for image trees; got {image_size} for {name}"
        )
    tree = name.startswith(TREE_PREFIX)
    base = Path() if tree else holder(data, root) or data_root(root)
    if data.unpacked is not None and (base / data.unpacked).is_dir():
        data = replace(data, folder=data.unpacked)
    if split not in data.files:
        raise ValueError(f"split of {name} must be one of {', '.join(data.files)}; got {split!r}")
    files = locate(name, data, split, base, download)
    images, labels, classes = data.read(files, limit, image_size or data.image_size)
    loaded = ImageSet(name, split, images, labels, classes, data.mean, data.std)
    return (loaded if limit is None else loaded.subset(limit)).to(device)


def published_augmentation(
    name: str, *, noise_std: float | None = None
) -> RandomCropFlip | GaussianNoise | RandomResizedCropFlip:
    """The augmentation that the published SoftHebb code pairs with a data set.

    Args:
        name: a data set as ``load`` takes it.
        noise_std: for MNIST and FashionMNIST, whose augmentation is Gaussian noise: its standard
            deviation on pixels in [0, 1]. No value was published, so there is no default.

    Raises:
        ValueError: an unknown name; or MNIST without ``noise_std``, or another set with it.
    """
    name = canonical_name(name)
    kind = RandomResizedCropFlip if name.startswith(TREE_PREFIX) else DATA_SETS[name].augmentation
    noisy = kind is GaussianNoise
    if noisy and noise_std is None:
        raise ValueError(
            f"{name}'s augmentation is Gaussian noise, of which no strength was published: "
            "give noise_std, or train without augmentation as the published runs did"
        )
    if not noisy and noise_std is not None:
        raise ValueError(f"noise_std is for mnist and fashionmnist; {name} has no noise")
    return GaussianNoise(noise_std) if noisy else kind()


def _data_set(name: str) -> DataSet:
    """The row of a canonical name; of a folder of images, one of its own."""
    if not name.startswith(TREE_PREFIX):
        return DATA_SETS[name]
    path = Path(name[len(TREE_PREFIX) :]).expanduser()
    if not path.is_dir():
        raise ValueError(f"{TREE_PREFIX}PATH must name an existing folder; got {str(path)!r}")
    test = "test" if (path / "test").is_dir() else "val"
    files = {"train": ("train",), "test": (test,), "val": ("val",)}
    return tree(str(path.resolve()), files)
