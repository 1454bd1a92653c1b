"""Readers of the file formats: each returns uint8 images, int64 labels and class names.

A file that does not hold what its format promises gives a ValueError that names it.
"""

from __future__ import annotations

import gzip
import math
import pickle
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softhebb_fast.data.images import ImageSet


class Parts(NamedTuple):
    """What a file or folder holds; the fields are those of ``ImageSet``."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    skipped: Mapping[str, int] = MappingProxyType({})
    converted: Mapping[str, int] = MappingProxyType({})

    def named(self, name: str, split: str) -> ImageSet:
        """The image set of that name."""
        return ImageSet(
            *(name, split, self.images, self.labels, self.classes),
            skipped=self.skipped,
            converted=self.converted,
        )


STL_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
STL_SIDE = 96
STL_BYTES = 3 * STL_SIDE * STL_SIDE


def read_idx_pair(files: Sequence[Path], classes: Sequence[str]) -> Parts:
    """Images [N, 1, H, W] and labels from a pair of IDX files, gzipped or not (MNIST)."""
    images, labels = read_idx(files[0], 3), read_idx(files[1], 1).to(torch.int64)
    _check_labels(files[1], labels, len(images), len(classes))
    return Parts(images.unsqueeze(1), labels, tuple(classes))


def read_idx(path: Path, dims: int) -> Tensor:
    """A uint8 tensor of ``dims`` dimensions from an IDX file: magic, big-endian sizes, bytes."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            raw = bytearray(file.read())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, "a whole gzip stream", error) from error
    magic, start = bytes((0, 0, 8, dims)), 4 + 4 * dims
    if raw[:4] != magic or len(raw) < start:
        raise _damaged(path, f"an IDX file that starts with {magic.hex()}", raw[:4].hex())
    shape = struct.unpack_from(f">{dims}I", raw, 4)
    if len(raw) != start + math.prod(shape):
        wanted = f"{start + math.prod(shape)} bytes for sizes {shape}"
        raise _damaged(path, wanted, f"{len(raw)} bytes")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).reshape(shape))


def read_cifar(files: Sequence[Path], labels_key: str, names_key: str) -> Parts:
    """Images [N, 3, 32, 32] and labels from CIFAR's pickled batches; the last file is the meta."""
    *batches, meta = files
    names = _unpickle(meta).get(names_key)
    if not isinstance(names, list) or not names:
        raise _damaged(meta, f"a list under {names_key!r}", type(names).__name__)
    classes = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
    images, labels = zip(
        *(_read_cifar_batch(path, labels_key, len(classes)) for path in batches), strict=True
    )
    return Parts(torch.cat(images), torch.cat(labels), classes)


def _read_cifar_batch(path: Path, labels_key: str, classes: int) -> tuple[Tensor, Tensor]:
    batch = _unpickle(path)
    data, labels = batch.get("data"), batch.get(labels_key)
    if isinstance(data, bytes):
        data = np.frombuffer(bytearray(data), np.uint8)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.size % 3072:
        raise _damaged(path, "uint8 rows of 3072 bytes under 'data'", type(data).__name__)
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise _damaged(path, f"a list of labels under {labels_key!r}", type(labels).__name__)
    images = torch.from_numpy(np.ascontiguousarray(data).reshape(-1, 3, 32, 32))
    labels = torch.tensor(labels, dtype=torch.int64)
    _check_labels(path, labels, len(images), classes)
    return images, labels


class _CifarUnpickler(pickle.Unpickler):
    """Builds arrays and plain containers, and refuses every other class or function."""

    # The module of _reconstruct differs between NumPy 1 and 2; an array knows it.
    allowed: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR file")
        return self.allowed[module, name]


def _unpickle(path: Path) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            content = _CifarUnpickler(file, encoding="bytes").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise _damaged(path, "a CIFAR pickle", error) from error
    if not isinstance(content, dict):
        raise _damaged(path, "a pickled dict", type(content).__name__)
    return {k.decode() if isinstance(k, bytes) else k: v for k, v in content.items()}


def read_stl10(files: Sequence[Path], limit: int | None) -> Parts:
    """Images [N, 3, 96, 96] and labels from STL-10's binary files; labels -1 without a label file.

    The images are stored column by column. Only the first ``limit`` are read.
    """
    path = files[0]
    count, rest = divmod(path.stat().st_size, STL_BYTES)
    if rest or not count:
        raise _damaged(path, f"a multiple of {STL_BYTES} bytes", f"{path.stat().st_size} bytes")
    read = count if limit is None else min(limit, count)
    images = torch.from_numpy(np.fromfile(path, np.uint8, count=read * STL_BYTES))
    images = images.view(-1, 3, STL_SIDE, STL_SIDE)
    for part in images.split(4096):  # in place: the unlabelled images are 2.8 GB
        part.copy_(part.mT.contiguous())
    if len(files) == 1:
        return Parts(images, torch.full((read,), -1), STL_CLASSES)
    labels = torch.from_numpy(np.fromfile(files[1], np.uint8)).to(torch.int64) - 1
    _check_labels(files[1], labels, count, len(STL_CLASSES))
    return Parts(images, labels[:read], STL_CLASSES)


def _check_labels(path: Path, labels: Tensor, images: int, classes: int) -> None:
    if len(labels) != images:
        raise _damaged(path, f"{images} labels, one an image", f"{len(labels)}")
    if images and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise _damaged(path, f"{classes} classes", f"{int(labels.min())} .. {int(labels.max())}")


def _damaged(path: Path, expected: str, got: object) -> ValueError:
    return ValueError(
        f"{path} is damaged: expected {expected}, got {got}; delete it and download it again"
    )
