"""Folders of images: ``<part>/<class>/.../<image>``, listed as torchvision's ImageFolder does.

The classes are the folders of the training part, sorted by name. Inside a class folders may lie in
each other, and links are followed. A part whose names and classes stand in a file
``val_annotations.txt`` (Tiny ImageNet) is read by it. What is left out is counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from softhebb_fast.data.pillow import suffixes

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation")
TEST = ("test", "testing", *VALIDATION)
ANNOTATIONS = "val_annotations.txt"
LAYOUT = "arrange it as PATH/train/<class>/<image> and PATH/test/<class>/<image>"


@dataclass(frozen=True)
class Listing:
    """The images of a part: their paths, labels and class names, and what was left out."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    def rows(self, indices: list[int]) -> Listing:
        """Those of the images alone."""
        paths, labels = (tuple(v[i] for i in indices) for v in (self.paths, self.labels))
        return replace(self, paths=paths, labels=labels)


def parts(root: Path) -> dict[str, Path]:
    """The folders that hold the parts ``train``, ``test`` and ``val``, as far as there are.

    Names are compared without case; a folder is a part if it has folders of classes. The test
    part is a folder for tests, else one for validation. Empty for a folder of classes.
    """
    named = {path.name.lower(): path for path in reversed(_visible_folders(root))}
    train = _first(named, TRAIN)
    if train is None:
        return {}
    found = {"train": train, "test": _first(named, TEST), "val": _first(named, VALIDATION)}
    if found["val"] is not None and (found["val"] / ANNOTATIONS).is_file():
        found["test"] = found["val"]
    return {name: path for name, path in found.items() if path is not None}


def listing(folder: Path, training: Path) -> Listing:
    """The images of ``folder``, whose classes are those of the folder ``training``.

    Raises ValueError for a class that ``training`` lacks, or without a single image.
    """
    classes = tuple(path.name for path in _visible_folders(training))
    skipped: Counter[str] = Counter()
    annotations = folder / ANNOTATIONS
    found = (
        _annotated(annotations, classes, skipped)
        if annotations.is_file()
        else _by_folder(folder, training, classes, skipped)
    )
    if not found:
        counted = "; ".join(f"{n}: {reason}" for reason, n in skipped.items())
        raise ValueError(
            f"{folder} must hold images as <class>/<name>, in a format that Pillow reads; found "
            f"none{f', skipped {counted}' if counted else ''}"
        )
    paths, labels = zip(*found, strict=True)
    return Listing(paths, labels, classes, skipped)


def _by_folder(
    folder: Path, training: Path, classes: tuple[str, ...], skipped: Counter[str]
) -> list[tuple[Path, int]]:
    unknown = sorted({path.name for path in _visible_folders(folder)} - set(classes))
    if unknown:
        raise ValueError(f"{folder} has classes that {training} lacks: {', '.join(unknown[:5])}")
    for entry in sorted(folder.iterdir()):
        if entry.name not in classes:
            hidden = entry.name.startswith(".")
            skipped["hidden" if hidden else "outside of the folders of classes"] += 1
    return [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in _images(folder / name, skipped)
    ]


def _images(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    """The images below ``folder``, sorted by their folder's path and then by name."""
    for where, files in sorted(_walk(folder, (), skipped)):
        for file in files:
            path = Path(where, file)
            if reason := _reason(path):
                skipped[reason] += 1
            else:
                yield path


def _walk(
    folder: Path, above: tuple[str, ...], skipped: Counter[str]
) -> Iterator[tuple[str, list[str]]]:
    real = os.path.realpath(folder)
    if real in above:
        skipped["a link to a folder around it"] += 1
        return
    below = sorted(folder.iterdir())
    yield str(folder), [path.name for path in below if not path.is_dir()]
    for path in below:
        if path.is_dir() and path.name.startswith("."):
            skipped["hidden"] += 1
        elif path.is_dir():
            yield from _walk(path, (*above, real), skipped)


def _annotated(
    annotations: Path, classes: tuple[str, ...], skipped: Counter[str]
) -> list[tuple[Path, int]]:
    """The images of a part of Tiny ImageNet: ``images/<name>``, its class in the second column."""
    folder, labels = annotations.parent / "images", {name: i for i, name in enumerate(classes)}
    found = []
    for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition("\t")
        label = rest.split("\t")[0]
        if not line.strip():
            continue
        if label not in labels or not (folder / name).is_file():
            raise ValueError(
                f"line {number} of {annotations} must name a file of {folder} and a class of the "
                f"training images; got {line!r}"
            )
        found.append((folder / name, labels[label]))
    listed = {path.name for path, _ in found}
    if unlisted := sum(path.name not in listed for path in folder.iterdir()):
        skipped[f"not in {ANNOTATIONS}"] += unlisted
    return found


def _reason(path: Path) -> str | None:
    """Why a file is no image of the set."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in suffixes():
        return f"no format that Pillow reads ({path.suffix.lower() or 'no suffix'})"
    return None if path.is_file() else "a link to nothing, or no regular file"


def _first(named: Mapping[str, Path], names: tuple[str, ...]) -> Path | None:
    """The first of the folders that holds a part: folders of classes, or annotations."""
    there = (named[name] for name in names if name in named)
    return next((p for p in there if _visible_folders(p)), None)


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
