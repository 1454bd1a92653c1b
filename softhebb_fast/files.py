"""Files that are whole or absent, and folders that one process has at a time."""

from __future__ import annotations

import csv
import io
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

LOCK, HOLDER = ".lock", ".lock.holder"
WAIT = 60.0  # seconds for another process to write


class InUse(ValueError):
    """A folder in which another process writes. `holder` says which."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(
            f"out must be a folder in which no other process writes; got {str(folder)!r}, where "
            f"{holder} does. Wait for it or stop it, or choose another folder"
        )
        self.holder = holder


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file beside ``path``, flush it to disk and move it to ``path``.

    What a killed process leaves there is overwritten by the next one.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        with named(path), open(part, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, "its folder is gone", str(path)) from error
    except BaseException:
        with suppress(OSError):  # as it cannot be in a folder that was made read-only
            part.unlink(missing_ok=True)
        raise


class named:
    """An OSError that is raised here without a name, as of a full disk, is one of ``path``; also
    one that a writer has hidden behind an error of its own, as ``torch.save`` does. A
    KeyboardInterrupt that it has hidden is raised again.

    No generator: one that raises holds, in Python 3.12 and 3.13, all that the traceback does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, (OSError, RuntimeError)):
            return
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        unnamed = _unnamed(error)
        if unnamed is not None:
            raise OSError(*unnamed, str(self.path)) from error


def _unnamed(error: OSError | RuntimeError) -> tuple[int, str] | None:
    """Number and words of ``error``, or of what it hides, if the system's and without a file.

    No exception is given: a frame that kept one would keep all that its traceback holds.
    """
    found = error.__context__ if isinstance(error, RuntimeError) else error
    if isinstance(found, OSError) and found.errno and found.filename is None:
        return found.errno, found.strerror
    return None


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


def writable_folder(path: str | Path, name: str = "out") -> Path:
    """``path`` as an existing folder that can be written, created if need be.

    Raises ValueError, naming the argument and the reason.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ValueError(
            f"{name} must be a folder that can be written; got {str(path)!r} ({error.strerror})"
        ) from error


def claim(folder: Path, seconds: float = 0.0) -> Callable[[], None]:
    """Keep other processes off an existing ``folder``; returns what gives it back.

    The claim ends with the process, however that ends. A process may claim a folder several times.

    Raises InUse if another process has it for ``seconds`` from now on.
    """
    place = folder.resolve() / LOCK
    lock = FileLock(place, is_singleton=True, thread_local=False)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise InUse(folder, _holder(folder)) from None
    holder = place.with_name(HOLDER)

    def release() -> None:
        if lock.lock_counter == 1:
            for file in (holder, place):  # nobody takes a lock on a file that is gone
                with suppress(OSError):
                    file.unlink()
        lock.release()

    if lock.lock_counter == 1:
        try:
            with named(holder):
                holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
        except BaseException:
            release()
            raise
    return release


def _holder(folder: Path) -> str:
    try:
        text = (folder / HOLDER).read_text(encoding="utf-8", errors="replace")
        return text or "another process"
    except OSError:
        return "another process"
