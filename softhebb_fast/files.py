"""Files that are whole or absent: written beside their place and moved there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


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
