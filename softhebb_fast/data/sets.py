"""The data sets, a row each: files, how they are read and augmented, where they can be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softhebb_fast.data import folders, formats
from softhebb_fast.data.augment import GaussianNoise, RandomCropFlip, RandomResizedCropFlip
from softhebb_fast.data.formats import Parts
from softhebb_fast.data.own import Shape, read_listing, spread
from softhebb_fast.data.reading import Reading

Reader = Callable[[Sequence[Path], int | None, Reading], Parts]
TREE_SIZE = 160


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        folder: that of its files below the data root, as torchvision lays it out.
        files: for each split, the files (or folders of images) that it needs. A file may also
            lie there as ``<file>.gz``.
        read: reads the files of a split: ``read(files, limit, reading)``.
        augmentation: the published one.
        downloads: (address, md5) pairs: one tar archive that unpacks to ``unpacked``, or one
            ``<file>.gz`` for each file. Empty where nothing can be downloaded.
        unpacked: the archive's folder, where its name is not ``folder``.
        kind: what of ``reading.OPTIONS`` is open.
        normalise: as ``load`` takes it.
    """

    folder: str
    files: Mapping[str, tuple[str, ...]]
    read: Reader
    augmentation: type
    downloads: tuple[tuple[str, str], ...] = ()
    unpacked: str | None = None
    kind: str = "file"
    normalise: str = "off"


def idx(classes: tuple[str, ...]) -> Reader:
    """A reader of images and labels in IDX files."""
    return lambda files, limit, how: formats.read_idx_pair(files, classes)


def cifar(labels_key: str, names_key: str) -> Reader:
    """A reader of CIFAR's pickles, with the labels and names under these keys."""
    return lambda files, limit, how: formats.read_cifar(files, labels_key, names_key)


def stl10(files: Sequence[Path], limit: int | None, how: Reading) -> Parts:
    return formats.read_stl10(files, limit)


def tree(folder: str, **more: Any) -> DataSet:
    """A tree of images of any size, ``{train,val}/<class>/<image>``; by default 160x160 RGB."""
    files = {"train": ("train",), "test": ("val",)}
    options = {"kind": "tree", "normalise": "imagenet", **more}
    return DataSet(folder, files, read_tree, RandomResizedCropFlip, **options)


def read_tree(files: Sequence[Path], limit: int | None, how: Reading) -> Parts:
    [folder] = files
    training = folder.parent / "train"
    found = folders.listing(folder, training if training.is_dir() else folder)
    shape = Shape(how.channels or 3, how.image_size or (TREE_SIZE, TREE_SIZE), deep=False)
    return read_listing(spread(found, limit), how, shape)


FASHION_CLASSES = (
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
)
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MNIST_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CIFAR_ADDRESS = "https://www.cs.toronto.edu/~kriz/"

DATA_SETS: dict[str, DataSet] = {
    "mnist": DataSet(
        "MNIST/raw",
        IDX_FILES,
        idx(tuple("0123456789")),
        GaussianNoise,
        (
            (MNIST_ADDRESS + "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            (MNIST_ADDRESS + "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            (MNIST_ADDRESS + "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            (MNIST_ADDRESS + "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
    ),
    "fashionmnist": DataSet(
        "FashionMNIST/raw",
        IDX_FILES,
        idx(FASHION_CLASSES),
        GaussianNoise,
        (
            (FASHION_ADDRESS + "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            (FASHION_ADDRESS + "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            (FASHION_ADDRESS + "t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            (FASHION_ADDRESS + "t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
    ),
    "cifar10": DataSet(
        "cifar-10-batches-py",
        {
            "train": (*(f"data_batch_{i}" for i in range(1, 6)), "batches.meta"),
            "test": ("test_batch", "batches.meta"),
        },
        cifar("labels", "label_names"),
        RandomCropFlip,
        ((CIFAR_ADDRESS + "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
    ),
    "cifar100": DataSet(
        "cifar-100-python",
        {"train": ("train", "meta"), "test": ("test", "meta")},
        cifar("fine_labels", "fine_label_names"),
        RandomCropFlip,
        ((CIFAR_ADDRESS + "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),),
    ),
    "stl10": DataSet(
        "stl10_binary",
        {
            "train": ("train_X.bin", "train_y.bin"),
            "test": ("test_X.bin", "test_y.bin"),
            "unlabeled": ("unlabeled_X.bin",),
        },
        stl10,
        RandomCropFlip,
        (
            (
                "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                "91f7769df0f17e558f3565bffb0c7dfb",
            ),
        ),
    ),
    "imagenette": tree(
        "imagenette",
        downloads=(
            (
                "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
                "e793b78cc4c9e9a4ccc0c1155377a412",
            ),
        ),
        unpacked="imagenette2-160",
    ),
    "imagenet": tree("imagenet"),
}
