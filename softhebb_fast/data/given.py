"""What a program has in its hands as image sets: arrays, torch data sets, files of arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from softhebb_fast import sealed
from softhebb_fast.data.arrays import from_arrays
from softhebb_fast.data.images import ImageSet

IMAGE_WORDS = ("images", "x", "data", "arr_0")
LABEL_WORDS = ("labels", "y", "targets", "arr_1")


def as_image_set(source: Any, *, name: str = "given", split: str = "train", **how: Any) -> ImageSet:
    """``source`` as an ``ImageSet``.

    Args:
        source: an ``ImageSet``, which stays as it is and takes none of ``how``; a map-style torch
            ``Dataset`` of (image, label), see ``from_dataset``; or a pair (images, labels), see
            ``from_arrays``.
        name, split, how: as ``from_arrays`` takes them.

    Raises:
        TypeError: anything else.
        ValueError: as ``from_arrays`` does; or options for an ``ImageSet``.
    """
    if isinstance(source, ImageSet):
        if how:
            raise ValueError(f"an ImageSet takes no options; got {', '.join(how)}")
        return source
    if isinstance(source, tuple | list) and len(source) == 2:
        return from_arrays(*source, name=name, split=split, **how)
    return from_dataset(source, name=name, split=split, **how)


def from_dataset(
    dataset: Dataset[Any], *, name: str = "given", split: str = "train", **how: Any
) -> ImageSet:
    """An ``ImageSet`` of all items (image, label) of a map-style torch ``Dataset``.

    Every item is read once and kept, so random transforms are drawn once. An image is a tensor or
    array [C, H, W], [H, W, C] or [H, W], or a Pillow image; a label a number or a string. Values
    and labels are read as by ``from_arrays``, which takes ``name``, ``split`` and ``how``. Class
    names are those of ``dataset.classes``, if it has them.

    Raises:
        TypeError: an ``IterableDataset``, a ``DataLoader``, or items of another kind.
        ValueError: an empty set, images of different sizes or types, naming the item; and as
            ``from_arrays`` does.
    """
    if isinstance(dataset, DataLoader):
        raise TypeError("dataset must be a torch Dataset; got a DataLoader: give its .dataset")
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            "dataset must be map-style, with a length; got an IterableDataset, which may not end: "
            "give its items as arrays, (images, labels)"
        )
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            "images must come as an ImageSet, as (images, labels) or as a map-style torch Dataset; "
            f"got {type(dataset).__name__}"
        )
    if not len(dataset):
        raise ValueError("dataset must hold images; it is empty")
    images, labels = None, []
    for i in range(len(dataset)):
        image, label = _item(dataset[i], i)
        if images is None:
            images = torch.empty((len(dataset), *image.shape), dtype=image.dtype)
        if image.shape != images.shape[1:] or image.dtype != images.dtype:
            raise ValueError(
                f"all images must be {tuple(images.shape[1:])} {images.dtype}, as the first one; "
                f"item {i} is {tuple(image.shape)} {image.dtype}: resize them in the dataset"
            )
        images[i] = image
        labels.append(label)
    classes = getattr(dataset, "classes", None)
    named = isinstance(classes, list | tuple) and all(isinstance(c, str) for c in classes)
    if named and tuple(classes) != tuple(how.setdefault("classes", tuple(classes))):
        raise ValueError(
            f"dataset.classes must be the classes asked for, {how['classes'][:5]}; "
            f"got {classes[:5]}"
        )
    return from_arrays(images, labels, name=name, split=split, **how)


def _item(item: Any, i: int) -> tuple[Tensor, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise TypeError(f"items must be (image, label); item {i} is {type(item).__name__}")
    image, label = item
    if not isinstance(image, Tensor):
        image = np.asarray(image)
        if image.dtype.kind not in "biuf":
            raise TypeError(f"images must be arrays of numbers; item {i} has {type(item[0])}")
        image = torch.from_numpy(image.copy())
    if isinstance(label, Tensor | np.ndarray):
        label = label.tolist()
    return image.detach().cpu(), label


def read_arrays(path: Path) -> dict[str, tuple[Any, Any]]:
    """The parts of an ``.npz`` file, or of a folder of ``.npy`` files: (images, labels) by name.

    A part's arrays are called ``train_images`` and ``train_labels``, ``x_train`` and ``y_train``,
    or alike, for train, test and val. ``images`` and ``labels`` (``x`` and ``y``, ``data`` and
    ``targets``) without a part's name are the part ``all``. The test part is that of tests, else
    that for validation.

    Raises ValueError, naming the file, if it is damaged or has no such arrays.
    """
    arrays = _open(path)
    found = {}
    for part in ("train", "test", "val", "valid", "all"):
        images, labels = (
            next((arrays[key] for key in _keys(words, part) if key in arrays), None)
            for words in (IMAGE_WORDS, LABEL_WORDS)
        )
        if images is not None and labels is None:
            raise ValueError(f"{path} has images of the part {part!r} but no labels for them")
        if images is not None:
            found[part] = (images(), labels())
    if not found:
        raise ValueError(
            f"{path} must hold train_images, train_labels, test_images and test_labels, or images "
            f"and labels; got {', '.join(sorted(arrays)) or 'nothing'}"
        )
    if "val" not in found and "valid" in found:
        found["val"] = found.pop("valid")
    if "test" not in found and "val" in found:
        found["test"] = found["val"]
    return found


def _keys(words: tuple[str, ...], part: str) -> list[str]:
    if part == "all":
        return list(words)
    return [key for word in words for key in (f"{part}_{word}", f"{word}_{part}", f"{part}{word}")]


def _open(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """What loads the arrays of a file or folder, by their names in lower case."""
    if path.is_dir():
        return {p.stem.lower(): partial(_load, p) for p in sorted(path.glob("*.npy"))}
    file = _load(path)
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} must be an .npz file of several arrays; it holds one")
    return {key.lower(): partial(_load, path, key) for key in file.files}


def _load(path: Path, key: str | None = None) -> Any:
    try:
        with open(path, "rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                if file.read(1):
                    raise ValueError("there is more behind its values")
                return content
            if key is None:
                sealed.check_zip(file)
                return np.load(path, allow_pickle=False)
            return content[key]
    except Exception as error:  # a damaged file can fail in any way
        what = path if key is None else f"{key} in {path}"
        raise ValueError(f"{what} cannot be read as an array: {error}") from error
