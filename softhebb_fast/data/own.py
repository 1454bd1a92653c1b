"""The user's own data: ``imagefolder:PATH`` and ``arrays:PATH``, and the part held out of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softhebb_fast.data import folders, pillow
from softhebb_fast.data.arrays import from_arrays
from softhebb_fast.data.folders import Listing
from softhebb_fast.data.formats import Parts
from softhebb_fast.data.given import read_arrays
from softhebb_fast.data.images import ImageSet
from softhebb_fast.data.reading import Reading


class Shape(NamedTuple):
    """What all images of a set have in common."""

    channels: int
    size: tuple[int, int]
    deep: bool


def read_folder(
    name: str, root: Path, split: str, how: Reading, limit: int | None, seed: int
) -> ImageSet:
    """A part of a folder of images, see ``load``; not normalised yet."""
    training = folder_part(root, "train" if split != "all" else split, how, seed)
    wanted = training if split in ("train", "all") else folder_part(root, split, how, seed)
    wanted, training = spread(wanted, limit), spread(training, limit)
    # The training images decide how all are read.
    unknown = how.image_size is None or how.channels is None
    shape = common_shape(training if unknown else wanted, how, root)
    like = {"image_size": shape.size, "channels": shape.channels}
    return replace(read_listing(wanted, how, shape).named(name, split), like=like)


def folder_part(root: Path, split: str, how: Reading, seed: int) -> Listing:
    """The images of ``split``: of its folder, or held out of the training images.

    Raises ValueError, saying how to arrange the folder, if there is no such part.
    """
    found = folders.parts(root)
    if found and split in found and how.holdout is None:
        return folders.listing(found[split], found["train"])
    if how.holdout is not None:
        _check_holdout(root, found)
        training = found.get("train", root)
        whole = folders.listing(training, training)
        kept, held = divide(torch.tensor(whole.labels), how.holdout, seed)
        rows = {"train": kept, "test": held, "all": torch.arange(len(whole.labels))}
        if split not in rows:
            raise ValueError(f"split must be train or test with holdout; got {split!r}")
        return whole.rows(rows[split].tolist())
    if found:
        raise ValueError(
            f"{root} has no folder of the part {split!r} with folders of classes, only of "
            f"{', '.join(found)}: {folders.LAYOUT}; or hold out a part of the training images "
            "for tests with holdout=0.2"
        )
    if split == "all":
        return folders.listing(root, root)
    names = [path.name for path in sorted(root.iterdir()) if path.is_dir()]
    raise ValueError(
        f"{root} has no folder train; it holds {len(names)} folders ({', '.join(names[:5])}"
        f"{', ...' * (len(names) > 5)}). If they are classes, hold out a part of their images for "
        f"tests with holdout=0.2; else {folders.LAYOUT}"
    )


def read_array_file(
    name: str, path: Path, split: str, how: Reading, limit: int | None, seed: int
) -> ImageSet:
    """A part of a file or folder of arrays, see ``load``; not normalised yet."""
    found = read_arrays(path)
    parts = found
    if how.holdout is not None:
        _check_holdout(path, found)
        parts = ("train", "test", "all")
    if split not in parts:
        raise ValueError(
            f"{path} has no arrays of the part {split!r}, only of {', '.join(parts)}; hold out a "
            "part of its training images for tests with holdout=0.2"
        )
    options = {"layout": how.layout, "value_range": how.value_range}
    training = "train" if "train" in found else split if how.holdout is None else "all"
    first = _of_file(path, training, found, options)
    if how.holdout is not None:
        kept, held = divide(first.labels, how.holdout, seed)
        rows = {"train": kept, "test": held, "all": torch.arange(len(first))}
        part = first.subset(rows[split])
        result = replace(part, converted=dict.fromkeys(first.converted, len(part)))
    elif split == training:
        result = first
    else:
        options = {"classes": first.classes, **options, **first.like}
        result = _of_file(path, split, found, options)
    result = replace(result, name=name, split=split)
    return result.subset(spread_rows(len(result), limit)) if limit else result


def _of_file(
    path: Path, part: str, found: dict[str, tuple[Any, Any]], options: dict[str, Any]
) -> ImageSet:
    try:
        return from_arrays(*found[part], **options)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{error} (the part {part!r} of {path})") from error


def divide(labels: Tensor, holdout: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices, sorted, of what stays and of what is held out.

    Of each class the nearest whole number of its share is drawn, and at least one stays.
    ValueError if that is nothing at all.
    """
    generator = torch.Generator().manual_seed(seed)
    held = []
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero()[:, 0]
        count = min(round(holdout * len(rows)), len(rows) - 1)
        held.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    test = torch.cat(held).sort().values
    if not len(test):
        raise ValueError(f"holdout must leave images to test on; {holdout} of each class is none")
    stays = torch.ones(len(labels), dtype=torch.bool)
    stays[test] = False
    return stays.nonzero()[:, 0], test


def spread_rows(n: int, limit: int | None) -> list[int]:
    """At most ``limit`` of n rows, evenly spread."""
    return list(range(n)) if limit is None or limit >= n else [i * n // limit for i in range(limit)]


def spread(listing: Listing, limit: int | None) -> Listing:
    """At most ``limit`` images, spread evenly over the listing, hence over the classes."""
    return listing.rows(spread_rows(len(listing.paths), limit)) if limit else listing


def common_shape(listing: Listing, how: Reading, where: Path) -> Shape:
    """Channels, size and depth of the images of a listing, as far as they are open.

    Three channels where one image has colours. Raises ValueError if their sizes differ.
    """
    outcomes = zip(listing.paths, _parallel(pillow.header, listing.paths), strict=True)
    found = {path: h for path, h in outcomes if not _failed(h, how)}
    if not found:
        raise ValueError(f"{where} has no image that can be read")
    sizes = {(h.height, h.width): path for path, h in found.items()}
    if how.image_size is None and len(sizes) > 1:
        (low, small), *_, (high, large) = sorted(sizes.items())
        raise ValueError(
            f"image_size must be given, as the images of {where} differ: {small.name} is "
            f"{low[0]}x{low[1]}, {large.name} {high[0]}x{high[1]}"
        )
    channels = how.channels or max(h.channels for h in found.values())
    size = how.image_size or next(iter(sizes))
    return Shape(channels, size, any(h.deep for h in found.values()))


def read_listing(listing: Listing, how: Reading, shape: Shape) -> Parts:
    """All images of a listing as one tensor.

    Raises ValueError naming a damaged file (``skip_damaged``: it is left out and counted), or
    if they need more memory than there is.
    """
    dtype = torch.float32 if shape.deep else torch.uint8
    dimensions = (len(listing.paths), shape.channels, *shape.size)
    _check_memory(dimensions, dtype)
    images = torch.empty(dimensions, dtype=dtype)
    array = images.numpy()

    def fill(i: int) -> list[str]:
        array[i], changes = pillow.pixels(listing.paths[i], shape.size, shape.channels, shape.deep)
        return changes

    changed, sound = Counter(), []
    for i, outcome in enumerate(_parallel(fill, range(len(listing.paths)))):
        if not _failed(outcome, how):
            changed.update(outcome)
            sound.append(i)
    skipped = dict(listing.skipped)
    if len(sound) < len(listing.paths):
        skipped["cannot be read as an image"] = len(listing.paths) - len(sound)
        images, listing = images[sound], listing.rows(sound)
    return Parts(images, torch.tensor(listing.labels), listing.classes, skipped, dict(changed))


def _check_holdout(where: Path, parts: Mapping[str, Any]) -> None:
    if "test" in parts:
        raise ValueError(f"holdout is for data without a part for tests, which {where} has")


def _failed(outcome: object, how: Reading) -> bool:
    if isinstance(outcome, ValueError) and not how.skip_damaged:
        raise ValueError(
            f"{outcome}. Mend or remove it, or leave such files out with skip_damaged=True "
            "(--skip-damaged)"
        ) from outcome
    return isinstance(outcome, ValueError)


def _parallel(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """What ``function`` gives for each item, or the ValueError that it raised."""

    def tried(item: Any) -> Any:
        try:
            return function(item)
        except ValueError as error:
            return error

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        yield from pool.map(tried, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _check_memory(dimensions: tuple[int, ...], dtype: torch.dtype) -> None:
    if not hasattr(os, "sysconf"):  # as on Windows
        return
    wanted = int(np.prod(dimensions)) * dtype.itemsize
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if wanted > there:
        raise ValueError(
            f"{dimensions[0]} images of {dimensions[1]}x{dimensions[2]}x{dimensions[3]} need "
            f"{wanted / 2**30:.0f} GiB of memory, more than there is ({there / 2**30:.0f} GiB): "
            "give a smaller image_size or a limit"
        )
