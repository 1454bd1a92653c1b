"""Where the files of a data set are: found in a folder, or fetched into it."""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path

import platformdirs
import pooch

from softhebb_fast.data.sets import DataSet

ROOT_VARIABLE = "SOFTHEBB_FAST_DATA"
EMBEDDED = Path(__file__).resolve().with_name("bundled")
EMBEDDED_SET = "MNIST/raw"
TIMEOUT = (5, 30)  # seconds to connect, seconds without a byte


class DataMissing(FileNotFoundError):
    """Files of a data set that are not there and could not be had; says where to put them."""


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder into which data sets are downloaded: the first of `roots` that is the user's.

    Raises:
        ValueError: ``root`` or the variable names something that is not a folder.
    """
    found = roots(root)
    return next((folder for folder in found if folder != EMBEDDED), found[0])


def roots(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """The folders in which data sets are looked for, one after the other.

    ``root`` alone if it is given. Else the environment variable SOFTHEBB_FAST_DATA, if it is set;
    the MNIST that comes with the package, if it is there; the user's cache folder.

    Raises:
        ValueError: ``root`` or the variable names something that is not a folder.
    """
    if root:
        return [_existing("root", root)]
    found = []
    if variable := os.environ.get(ROOT_VARIABLE):
        found.append(_existing(f"the environment variable {ROOT_VARIABLE}", variable))
    if (EMBEDDED / EMBEDDED_SET).is_dir():
        found.append(EMBEDDED)
    return [*found, Path(platformdirs.user_cache_dir("softhebb_fast"))]


def holder(data: DataSet, root: str | os.PathLike[str] | None = None) -> Path | None:
    """The first of `roots` that holds all files of a data set. Raises as that does."""
    return next((folder for folder in roots(root) if _holds(folder, data)), None)


def locate(name: str, data: DataSet, split: str, root: Path, download: bool) -> list[Path]:
    """The paths of the files that ``split`` needs, in its order.

    Whatever is missing is downloaded into ``root`` if allowed: checked against its md5 in a
    temporary folder first, then moved into place.

    Raises:
        ValueError: a download that is not what it should be.
        DataMissing: files that are missing and could not be had.
    """
    folder = root / data.folder
    missing = [file for file in data.files[split] if _find(folder, file) is None]
    reason = ""
    if missing and download and data.downloads:
        try:
            _download(data, missing, root)
        except OSError as error:
            reason = f" Downloading failed: {error}."
        missing = [file for file in missing if _find(folder, file) is None]
    if missing:
        origin = " and ".join(dict.fromkeys(_address(data, file) for file in missing))
        raise DataMissing(
            f"{name} ({split}) is incomplete: {folder} lacks {', '.join(missing)}.{reason} "
            f"Put what is missing there{f' (it comes from {origin})' if origin else ''}, or name "
            f"another data folder with root or the environment variable {ROOT_VARIABLE}"
        )
    return [_find(folder, file) for file in data.files[split]]


def _existing(name: str, value: str | os.PathLike[str]) -> Path:
    path = Path(value).expanduser()
    if not path.is_dir():
        raise ValueError(f"{name} must be an existing folder; got {str(value)!r}")
    return path


def _holds(root: Path, data: DataSet) -> bool:
    files = {file for split in ("train", "test") for file in data.files[split]}
    places = [root / name for name in (data.folder, data.unpacked) if name is not None]
    return any(all(_find(place, file) for file in files) for place in places)


def _find(folder: Path, file: str) -> Path | None:
    candidates = (folder / file, folder / f"{file}.gz")
    return next((path for path in candidates if path.exists()), None)


def _is_archive(data: DataSet) -> bool:
    return any(address.endswith((".tar.gz", ".tgz")) for address, _ in data.downloads)


def _address(data: DataSet, file: str) -> str:
    fitting = (a for a, _ in data.downloads if _is_archive(data) or a.endswith(f"/{file}.gz"))
    return next(fitting, "")


def _download(data: DataSet, missing: list[str], root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    folder = root / data.folder
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as scratch:
        if _is_archive(data):
            unpacked = _unpack(_retrieve(*data.downloads[0], scratch), scratch)
            unpacked /= data.unpacked or data.folder
            if not folder.exists():
                os.replace(unpacked, folder)
                return
            for file in missing:
                os.replace(unpacked / file, folder / file)
            return
        md5s = dict(data.downloads)
        for file in missing:
            address = _address(data, file)
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
