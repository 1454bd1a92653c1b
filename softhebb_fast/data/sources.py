"""Where the files of a data set are, and where they can be had."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pooch

ROOT_VARIABLE = "SOFTHEBB_FAST_DATA"
EMBEDDED = Path(__file__).resolve().parents[2] / "data"
TIMEOUT = (5, 30)  # seconds to connect, seconds without a byte


@dataclass(frozen=True)
class Source:
    """The files of one data set.

    Attributes:
        folder: their folder below the data root, as torchvision lays it out.
        files: for each split, the files (or folders of images) that it needs. A file may also
            lie there as ``<file>.gz``.
        downloads: (address, md5) pairs: one tar archive that unpacks to ``unpacked``, or one
            ``<file>.gz`` for each file. Empty where nothing can be downloaded.
        unpacked: the archive's folder, where its name is not ``folder``.
    """

    folder: str
    files: Mapping[str, tuple[str, ...]]
    downloads: tuple[tuple[str, str], ...] = ()
    unpacked: str | None = None


IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MNIST_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CIFAR_ADDRESS = "https://www.cs.toronto.edu/~kriz/"

SOURCES: dict[str, Source] = {
    "mnist": Source(
        "MNIST/raw",
        IDX_FILES,
        (
            (MNIST_ADDRESS + "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            (MNIST_ADDRESS + "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            (MNIST_ADDRESS + "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            (MNIST_ADDRESS + "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
    ),
    "fashionmnist": Source(
        "FashionMNIST/raw",
        IDX_FILES,
        (
            (FASHION_ADDRESS + "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            (FASHION_ADDRESS + "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            (FASHION_ADDRESS + "t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            (FASHION_ADDRESS + "t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
    ),
    "cifar10": Source(
        "cifar-10-batches-py",
        {
            "train": (*(f"data_batch_{i}" for i in range(1, 6)), "batches.meta"),
            "test": ("test_batch", "batches.meta"),
        },
        ((CIFAR_ADDRESS + "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
    ),
    "cifar100": Source(
        "cifar-100-python",
        {"train": ("train", "meta"), "test": ("test", "meta")},
        ((CIFAR_ADDRESS + "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),),
    ),
    "stl10": Source(
        "stl10_binary",
        {
            "train": ("train_X.bin", "train_y.bin"),
            "test": ("test_X.bin", "test_y.bin"),
            "unlabeled": ("unlabeled_X.bin",),
        },
        (
            (
                "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                "91f7769df0f17e558f3565bffb0c7dfb",
            ),
        ),
    ),
    "imagenette": Source(
        "imagenette",
        {"train": ("train",), "test": ("val",)},
        (
            (
                "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
                "e793b78cc4c9e9a4ccc0c1155377a412",
            ),
        ),
        unpacked="imagenette2-160",
    ),
    "imagenet": Source("imagenet", {"train": ("train",), "test": ("val",)}),
}


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder that holds the data sets: the first of these that is given.

    1. ``root``; 2. the environment variable SOFTHEBB_FAST_DATA; 3. the folder ``data`` of a
    source checkout, which comes with MNIST; 4. the user's cache folder for softhebb_fast.
    The first one given decides alone: a data set that it lacks is not looked for in the next.

    Raises:
        ValueError: ``root`` or the variable names something that is not a folder.
    """
    variable = os.environ.get(ROOT_VARIABLE)
    for name, value in (("root", root), (f"the environment variable {ROOT_VARIABLE}", variable)):
        if value:
            path = Path(value).expanduser()
            if not path.is_dir():
                raise ValueError(f"{name} must be an existing folder; got {str(value)!r}")
            return path
    if (EMBEDDED / SOURCES["mnist"].folder).is_dir():
        return EMBEDDED
    return Path(platformdirs.user_cache_dir("softhebb_fast"))


def locate(name: str, source: Source, split: str, root: Path, download: bool) -> list[Path]:
    """The paths of the files that ``split`` needs, in the source's order.

    Whatever is missing is downloaded into ``root`` if allowed: checked against its md5 in a
    temporary folder first, then moved into place.

    Raises:
        ValueError: a download that is not what it should be.
        FileNotFoundError: files that are missing and could not be had; says where to put them.
    """
    folder = root / source.folder
    missing = [file for file in source.files[split] if _find(folder, file) is None]
    reason = ""
    if missing and download and source.downloads:
        try:
            _download(source, missing, root)
        except OSError as error:
            reason = f" Downloading failed: {error}."
        missing = [file for file in missing if _find(folder, file) is None]
    if missing:
        origin = " and ".join(dict.fromkeys(_address(source, file) for file in missing))
        raise FileNotFoundError(
            f"{name} ({split}) is incomplete: {folder} lacks {', '.join(missing)}.{reason} "
            f"Put what is missing there{f' (it comes from {origin})' if origin else ''}, or name "
            f"another data folder with root or the environment variable {ROOT_VARIABLE}"
        )
    return [_find(folder, file) for file in source.files[split]]


def _find(folder: Path, file: str) -> Path | None:
    candidates = (folder / file, folder / f"{file}.gz")
    return next((path for path in candidates if path.exists()), None)


def _is_archive(source: Source) -> bool:
    return any(address.endswith((".tar.gz", ".tgz")) for address, _ in source.downloads)


def _address(source: Source, file: str) -> str:
    fitting = (a for a, _ in source.downloads if _is_archive(source) or a.endswith(f"/{file}.gz"))
    return next(fitting, "")


def _download(source: Source, missing: list[str], root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    folder = root / source.folder
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as scratch:
        if _is_archive(source):
            unpacked = _unpack(_retrieve(*source.downloads[0], scratch), scratch)
            unpacked /= source.unpacked or source.folder
            if not folder.exists():
                os.replace(unpacked, folder)
                return
            for file in missing:
                os.replace(unpacked / file, folder / file)
            return
        md5s = dict(source.downloads)
        for file in missing:
            address = _address(source, file)
            fetched = _retrieve(address, md5s[address], scratch)
            folder.mkdir(parents=True, exist_ok=True)
            os.replace(fetched, folder / f"{file}.gz")


def _retrieve(address: str, md5: str, folder: str) -> str:
    file = address.rsplit("/", 1)[-1]
    fetch = pooch.HTTPDownloader(timeout=TIMEOUT)
    try:
        return pooch.retrieve(address, f"md5:{md5}", fname=file, path=folder, downloader=fetch)
    except ValueError as error:
        raise ValueError(
            f"{address} is not the file it should be, of md5 {md5}, and was deleted: {error} "
            "Try again, or put the right file in place by hand"
        ) from error


def _unpack(archive: str, folder: str) -> Path:
    target = Path(folder) / "unpacked"
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{archive} is no sound tar archive: {error}; download it again"
        ) from error
    return target
