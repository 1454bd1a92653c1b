"""The data sets by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from softhebb_fast.data.augment import GaussianNoise, RandomCropFlip, RandomResizedCropFlip
from softhebb_fast.data.images import ImageSet
from softhebb_fast.data.own import read_array_file, read_folder
from softhebb_fast.data.reading import IMAGENET, Reading
from softhebb_fast.data.sets import DATA_SETS
from softhebb_fast.data.sources import data_root, holder, locate
from softhebb_fast.naming import did_you_mean

NAMES = tuple(DATA_SETS)
TREE_PREFIX, ARRAYS_PREFIX = "imagefolder:", "arrays:"
GIVEN_PREFIX = "given:"  # names images that only a program has
READERS = {TREE_PREFIX: ("folder", read_folder), ARRAYS_PREFIX: ("arrays", read_array_file)}


def canonical_name(name: str) -> str:
    """``name`` as in ``NAMES``, or ``imagefolder:PATH`` or ``arrays:PATH`` with the whole path.

    Case, hyphens and underscores are free. The path of an existing folder is one of images, that
    of an ``.npz`` file one of arrays.

    Raises:
        TypeError: not a string.
        ValueError: an unknown name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string; got {name!r}")
    if name.startswith(GIVEN_PREFIX):
        raise ValueError(
            f"{name!r} names images that a program gave to its run: give them again, as train and "
            "test to the trainer or its resume, as test to evaluate"
        )
    prefix = _prefix(name)
    if prefix:
        return prefix + _whole(name[len(prefix) :])
    key = name.lower().replace("-", "").replace("_", "")
    if key in DATA_SETS:
        return key
    if name.lower().endswith(".npz"):
        return ARRAYS_PREFIX + _whole(name)
    if name and Path(name).expanduser().is_dir():
        return TREE_PREFIX + _whole(name)
    known = ", ".join((*NAMES, f"{TREE_PREFIX}PATH", f"{ARRAYS_PREFIX}PATH"))
    hint = did_you_mean(name, NAMES)
    raise ValueError(f"name must be one of {known}; got {name!r}{hint}")


def load(
    name: str,
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    normalise: str | Sequence[Sequence[float]] | None = None,
    holdout: float | None = None,
    seed: int = 0,
    layout: str | None = None,
    value_range: tuple[float, float] | str | None = None,
    skip_damaged: bool = False,
) -> ImageSet:
    """Read a whole data set onto ``device``.

    Args:
        name: one of ``NAMES`` in any spelling ("CIFAR-10"); ``imagefolder:PATH``, or the path
            alone, for a folder of images ``PATH/{train,test}/<class>/<image>``; or
            ``arrays:PATH`` for an ``.npz`` file, or a folder of ``.npy`` files, with
            ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``.
        split: ``"train"`` or ``"test"``; STL-10 also has ``"unlabeled"``, own data also ``"val"``.
            ``val``, ``valid`` and ``validation`` are folders for validation. They are the test
            split of a tree without a folder ``test``. A folder of classes alone is ``"all"``.
        root: folder of the data sets; see ``data_root`` for the default and the layout's place.
        download: fetch what is missing, where an address is known.
        device: where the tensors go.
        limit: at most so many images: the first ones, or, of own data and image trees (which are
            sorted by class), evenly spread ones.
        image_size: of folders and trees: images are scaled to this height and width (an int: both)
            on the side that fits worse, and cropped in the centre. By default trees of ImageNet
            are 160x160. Other folders keep the size of their training images, which must have
            one in common.
        channels: of folders and trees: 1 for grey, 3 for RGB. By default trees of ImageNet have 3,
            other folders 1 if all training images are grey.
        normalise: ``"off"``, ``"train"`` for the mean and deviation of each channel over the
            training images, ``"imagenet"``, or (means, deviations) of pixels in [0, 1]. By
            default ``"imagenet"`` for its trees, ``"train"`` for folders, else ``"off"``.
        holdout: of own data without a part for tests: this fraction of each class is drawn by
            ``seed`` to be the test split.
        layout, value_range: of arrays, see ``from_arrays``. Those of the training images hold for
            all parts.
        skip_damaged: of folders and trees: leave out images that cannot be read, and count them.

    Returns:
        An ``ImageSet``: MNIST and FashionMNIST [N, 1, 28, 28], CIFAR [N, 3, 32, 32] (CIFAR-100
        with its 100 fine labels), STL-10 [N, 3, 96, 96], others as above. Images of 16 bits, or of
        floats in [0, 1], make the set float32; see ``pillow.pixels`` for what becomes of others.
        Its ``report()`` says what was skipped and changed.

    Raises:
        TypeError: a name that is no string, or an option of another kind.
        ValueError: an unknown name or split, a bad ``root``, ``limit`` or option, or a damaged
            file, naming it.
        FileNotFoundError: files that are missing and could not be downloaded.
    """
    name = canonical_name(name)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None for all images; got {limit}")
    how = Reading(image_size, channels, normalise, holdout, layout, value_range, skip_damaged)
    where = {"root": root, "download": download}
    loaded = _read(name, split, how, limit, seed, **where)
    default = _default_normalisation(name)
    wanted = how.normalise or default
    if wanted == "train":
        training = loaded
        if split not in ("train", "all"):
            training = _read(name, "train", how, limit, seed, **where)
        wanted = training.moments()
    return normalised(loaded, wanted).to(device)


def load_pair(name: str, **options: object) -> tuple[ImageSet, ImageSet]:
    """The training and the test images of ``name``, read alike.

    ``options`` and errors are those of ``load``.
    """
    train = load(name, "train", **options)
    return train, load(name, "test", **{**options, **train.like})


def normalised(images: ImageSet, normalise: str | Sequence[Sequence[float]]) -> ImageSet:
    """``images`` with the mean and std that ``normalise`` says, as for ``load`` ("train" are their
    own).

    Raises ValueError if those are of another number of channels.
    """
    wanted = Reading(normalise=normalise).normalise
    moments = {"off": (None, None), "imagenet": IMAGENET}.get(wanted, wanted)
    if wanted == "train":
        moments = images.moments()
    like = {**images.like, "normalise": "off" if wanted == "off" else moments}
    return replace(images, mean=moments[0], std=moments[1], like=like)


def _read(
    name: str,
    split: str,
    how: Reading,
    limit: int | None,
    seed: int,
    root: str | os.PathLike[str] | None,
    download: bool,
) -> ImageSet:
    prefix = _prefix(name)
    if prefix:
        kind, read = READERS[prefix]
        how.check_for(kind, name)
        path = Path(name[len(prefix) :])
        if not (path.is_dir() or (prefix == ARRAYS_PREFIX and path.is_file())):
            text = "folder" if prefix == TREE_PREFIX else "file or folder"
            raise ValueError(f"{prefix}PATH must name an existing {text}; got {str(path)!r}")
        return read(name, path, split, how, limit, seed)
    data = DATA_SETS[name]
    how.check_for(data.kind, name)
    base = holder(data, root) or data_root(root)
    if data.unpacked is not None and (base / data.unpacked).is_dir():
        data = replace(data, folder=data.unpacked)
    if split not in data.files:
        raise ValueError(f"split of {name} must be one of {', '.join(data.files)}; got {split!r}")
    files = locate(name, data, split, base, download)
    loaded = data.read(files, limit, how).named(name, split)
    return loaded if limit is None else loaded.subset(limit)


def _default_normalisation(name: str) -> str:
    own = {TREE_PREFIX: "train", ARRAYS_PREFIX: "off"}
    return own.get(_prefix(name)) or DATA_SETS[name].normalise


def _prefix(name: str) -> str:
    return next((p for p in READERS if name.lower().startswith(p) and len(name) > len(p)), "")


def _whole(path: str) -> str:
    return str(Path(path).expanduser().absolute())


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
    given = name.startswith(GIVEN_PREFIX)
    name = name if given else canonical_name(name)
    own = {TREE_PREFIX: RandomResizedCropFlip, ARRAYS_PREFIX: RandomCropFlip}
    own |= {"": DATA_SETS[name].augmentation if name in DATA_SETS else RandomCropFlip}
    kind = own[_prefix(name)]
    noisy = kind is GaussianNoise
    if noisy and noise_std is None:
        raise ValueError(
            f"{name}'s augmentation is Gaussian noise, of which no strength was published: "
            "give noise_std, or train without augmentation as the published runs did"
        )
    if not noisy and noise_std is not None:
        raise ValueError(f"noise_std is for mnist and fashionmnist; {name} has no noise")
    return GaussianNoise(noise_std) if noisy else kind()
