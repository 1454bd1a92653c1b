"""Small data sets, in memory and in the published file formats."""

from __future__ import annotations

import copy
import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from softhebb_fast.data import ImageSet


def counted(n: int = 10, shape: tuple[int, int, int] = (1, 2, 2)) -> ImageSet:
    """Image i is filled with the byte i and has label i."""
    images = torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *shape)
    return ImageSet("counted", "train", images, torch.arange(n), tuple(map(str, range(n))))


def with_tensors(made: ImageSet, images: Tensor, labels: Tensor) -> ImageSet:
    """The set with tensors that pretend to be somewhere, whose values it cannot check."""
    made = copy.copy(made)
    object.__setattr__(made, "images", images)
    object.__setattr__(made, "labels", labels)
    return made


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


IDX_IMAGES = np.arange(3 * 2 * 4).reshape(3, 2, 4)
IDX_LABELS = np.array([7, 0, 9])


def write_mnist(root: Path, pack: bool = False, folder: str = "MNIST/raw") -> Path:
    raw = root / folder
    raw.mkdir(parents=True)
    for file, array in (
        ("train-images-idx3-ubyte", IDX_IMAGES),
        ("train-labels-idx1-ubyte", IDX_LABELS),
    ):
        content = idx_bytes(array)
        if pack:
            (raw / f"{file}.gz").write_bytes(gzip.compress(content))
        else:
            (raw / file).write_bytes(content)
    return raw


def python2_batch(images: np.ndarray, labels: list[int], key: bytes) -> bytes:
    """A CIFAR batch as Python 2 wrote it: byte strings, and an array by _reconstruct."""

    def text(b: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(b)) + b

    def number(n: int) -> bytes:
        return b"J" + struct.pack("<i", n)

    dtype = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    array += number(0) + b"\x85" + text(b"b") + b"\x87R("
    array += number(1) + number(len(images)) + number(3072) + b"\x86" + dtype
    array += b"\x89" + text(images.astype(np.uint8).tobytes()) + b"tb"
    items = text(b"data") + array + text(key) + b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + items + b"u."


def write_cifar10(root: Path) -> Path:
    """Batch i holds two images filled with 10 i and 10 i + 1, labels 0 and 2."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for i, file in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        images = np.repeat([[10 * i], [10 * i + 1]], 3072, axis=1)
        (folder / file).write_bytes(python2_batch(images, [0, 2], b"labels"))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog", "frog"]}))
    return folder


def write_stl10(root: Path) -> Tensor:
    """Return the four training images, [4, 3, 96, 96] in rows and columns."""
    folder = root / "stl10_binary"
    folder.mkdir()
    images = torch.randint(256, (4, 3, 96, 96), dtype=torch.uint8, generator=generator())
    columns_first = images.transpose(2, 3).contiguous().numpy().tobytes()
    (folder / "train_X.bin").write_bytes(columns_first)
    (folder / "unlabeled_X.bin").write_bytes(columns_first)
    (folder / "train_y.bin").write_bytes(bytes((1, 10, 3, 3)))
    return images


def write_tree(folder: Path, split: str, classes: dict[str, int]) -> Path:
    """Per class, so many 8x4 images: red in the middle four columns, blue outside."""
    for name, count in classes.items():
        (folder / split / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.zeros((4, 8, 3), np.uint8)
            pixels[..., 2] = 255
            pixels[:, 2:6] = (255, 0, 0)
            Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder
