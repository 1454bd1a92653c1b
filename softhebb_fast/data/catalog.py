"""The data sets by name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from softhebb_fast.data import formats
from softhebb_fast.data.augment import GaussianNoise, RandomCropFlip, RandomResizedCropFlip
from softhebb_fast.data.images import ImageSet
from softhebb_fast.data.sources import SOURCES, Source, data_root, locate

NAMES = tuple(SOURCES)
TREES = ("imagenette", "imagenet")
TREE_PREFIX = "imagefolder:"
TREE_IMAGE_SIZE = 160
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IDX_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashionmnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}
CIFAR_KEYS = {
    "cifar10": ("labels", "label_names"),
    "cifar100": ("fine_labels", "fine_label_names"),
}


def canonical_name(name: str) -> str:
    """``name`` as in ``NAMES``, or ``imagefolder:PATH``; case, hyphens and underscores are free.

    Raises:
        TypeError: not a string.
        ValueError: an unknown name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string; got {name!r}")
    if name.lower().startswith(TREE_PREFIX) and name[len(TREE_PREFIX) :]:
        return TREE_PREFIX + name[len(TREE_PREFIX) :]
    key = name.lower().replace("-", "").replace("_", "")
    if key not in SOURCES:
        known = ", ".join((*NAMES, f"{TREE_PREFIX}PATH"))
        raise ValueError(f"name must be one of {known}; got {name!r}")
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
    if image_size is not None and (not _is_tree(name) or image_size < 1):
        raise ValueError(
            f"image_size must be positive and is for image trees; got {image_size} for {name}"
        )
    if name.startswith(TREE_PREFIX):
        base, source = Path(), _tree_source(Path(name[len(TREE_PREFIX) :]).expanduser())
    else:
        base, source = data_root(root), SOURCES[name]
    if name == "imagenette" and (base / source.unpacked).is_dir():
        source = replace(source, folder=source.unpacked)
    if split not in source.files:
        raise ValueError(f"split of {name} must be one of {', '.join(source.files)}; got {split!r}")
    files = locate(name, source, split, base, download)
    mean = std = None
    if name in IDX_CLASSES:
        images, labels, classes = formats.read_idx_pair(files, IDX_CLASSES[name])
    elif name in CIFAR_KEYS:
        images, labels, classes = formats.read_cifar(files, *CIFAR_KEYS[name])
    elif name == "stl10":
        images, labels, classes = formats.read_stl10(files, limit)
    else:
        images, labels, classes = formats.read_tree(files[0], image_size or TREE_IMAGE_SIZE, limit)
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    loaded = ImageSet(name, split, images, labels, classes, mean, std)
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
    kind = canonical_name(name)
    noisy = kind in IDX_CLASSES
    if noisy and noise_std is None:
        raise ValueError(
            f"{kind}'s augmentation is Gaussian noise, of which no strength was published: "
            "give noise_std, or train without augmentation as the published runs did"
        )
    if not noisy and noise_std is not None:
        raise ValueError(f"noise_std is for mnist and fashionmnist; {kind} has no noise")
    if noisy:
        return GaussianNoise(noise_std)
    return RandomResizedCropFlip() if _is_tree(kind) else RandomCropFlip()


def _is_tree(name: str) -> bool:
    return name in TREES or name.startswith(TREE_PREFIX)


def _tree_source(path: Path) -> Source:
    if not path.is_dir():
        raise ValueError(f"{TREE_PREFIX}PATH must name an existing folder; got {str(path)!r}")
    test = "test" if (path / "test").is_dir() else "val"
    return Source(str(path.resolve()), {"train": ("train",), "test": (test,), "val": ("val",)})
