"""The images of a run: loaded by the name of their data set, or given by the program."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from softhebb_fast.data import ImageSet, Reading, as_image_set, load_pair, normalised
from softhebb_fast.data.catalog import GIVEN_PREFIX, canonical_name
from softhebb_fast.data.own import divide, spread_rows
from softhebb_fast.training.config import Config

Pair = tuple[ImageSet, ImageSet]


def named(config: Config, given: bool) -> Config:
    """``config`` with a data set by which a run finds its images again: own ones by whole path."""
    name = config.dataset
    if given:
        known = name.startswith(GIVEN_PREFIX)
        return config if known else replace(config, dataset=GIVEN_PREFIX + name)
    canonical = canonical_name(name)
    return replace(config, dataset=canonical) if ":" in canonical else config


def source(dataset: str, root: str | Path | None) -> str:
    """The data set's name; one that names its own place, ``imagefolder:PATH`` or ``arrays:PATH``,
    is at ``root`` if that is given."""
    kind, named, _ = dataset.partition(":")
    moved = named and root is not None and not dataset.startswith(GIVEN_PREFIX)
    return f"{kind}:{root}" if moved else dataset


def reading_options(config: Config, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How ``data.load`` reads the images of ``config``, a further part ``like`` the first."""
    how = {"seed": config.seed, "limit": config.limit}
    return {**how, **(config.reading or {}), **(like or {})}


def load_images(config: Config, dataset: str, root: str | None, device: torch.device) -> Pair:
    """Training and test images of ``dataset``, read as ``config`` says.

    Raises as ``data.load`` and ``fitting`` do.
    """
    return fitting(*load_pair(dataset, root=root, device=device, **reading_options(config)))


def given_images(config: Config, train: Any, test: Any, device: torch.device) -> Pair:
    """Training and test images of a program, as ``data.as_image_set`` takes them.

    ``config.reading`` says how arrays are read, and what is held out where ``test`` is None.
    The classes are those of the training images. Raises as ``as_image_set`` and ``fitting`` do.
    """
    how = Reading(**(config.reading or {}))
    how.check_for("arrays", config.dataset)
    options = {"layout": how.layout, "value_range": how.value_range}
    options = {name: value for name, value in options.items() if value is not None}
    whole = as_image_set(train, name=config.dataset, **options)
    _check_labelled("train", whole)
    if test is None:
        if how.holdout is None:
            raise ValueError(
                "test must be given, or reading={'holdout': 0.2}, which holds out a part of train"
            )
        kept, held = divide(whole.labels.cpu(), how.holdout, config.seed)
        pair = whole.subset(kept), replace(whole.subset(held), split="test")
    elif how.holdout is not None:
        raise ValueError("holdout is for runs without test; both were given")
    else:
        options |= {"classes": whole.classes}
        options |= {k: v for k, v in whole.like.items() if k in ("layout", "value_range")}
        if not isinstance(test, ImageSet):
            test = as_image_set(test, name=config.dataset, split="test", **options)
        pair = whole, test
    if config.limit is not None:
        pair = tuple(part.subset(spread_rows(len(part), config.limit)) for part in pair)
    if how.normalise is not None:
        pair = pair[0], replace(pair[1], mean=None, std=None)
        first = normalised(pair[0], how.normalise)
        pair = first, normalised(pair[1], first.like["normalise"])
    train_set, test_set = fitting(*pair)
    return train_set.to(device), test_set.to(device)


def fitting(train: ImageSet, test: ImageSet) -> Pair:
    """Both, unless they do not fit each other or lack labels (ValueError)."""
    _check_labelled("train", train)
    _check_labelled("test", test)
    for what in ("image_shape", "classes", "mean", "std"):
        here, there = getattr(train, what), getattr(test, what)
        if here != there:
            raise ValueError(
                f"train and test must have the same {what}; got {_short(here)} and {_short(there)}"
            )
    return train, test


def _check_labelled(name: str, images: ImageSet) -> None:
    if not len(images) or bool((images.labels < 0).any()):
        raise ValueError(f"the {name} images must all have labels, and be at least one")


def fingerprint(images: ImageSet) -> dict[str, Any]:
    """How many images there are, and a digest of pixels, labels, class names, mean and std."""
    moments = [[f"{v:.6g}" for v in given or ()] for given in (images.mean, images.std)]
    digest = hashlib.blake2b(repr((images.classes, moments)).encode(), digest_size=16)
    for tensor in (images.images, images.labels):
        digest.update(tensor.cpu().contiguous().numpy().data)
    return {"images": len(images), "digest": digest.hexdigest()}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else text[:77] + "..."
