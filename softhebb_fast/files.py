"""Files that are whole or absent, and folders that one process has at a time."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where filelock is installed
    fcntl = None


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file beside ``path``, flush it to disk and move it to ``path``.

    What a killed process leaves there is overwritten by the next one.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` under a header to ``path``, atomically; what a row lacks stays empty.

    Raises ValueError if a row has a key that is not among ``columns``.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def writable_folder(path: Path, name: str = "out") -> Path:
    """``path`` as an existing folder that can be written, created if need be.

    Raises ValueError, naming the argument and the reason.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ValueError(
            f"{name} must be a folder that can be written; got {str(path)!r} ({error.strerror})"
        ) from error


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Keep other processes out of an existing folder; the system lets go of it with the process.

    Gives whether it is ours, which without ``wait`` it is not while another process has it.
    """
    if fcntl is None:
        with _locked_by_file(folder, wait) as ours:
            yield ours
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = True
        except BlockingIOError:
            ours = False
        yield ours
    finally:
        os.close(descriptor)


@contextmanager
def _locked_by_file(folder: Path, wait: bool) -> Iterator[bool]:
    """The same where a folder cannot be opened: by a file beside it."""
    from filelock import FileLock, Timeout

    folder = folder.resolve()
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
