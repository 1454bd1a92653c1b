"""Files that tell whether they still hold what was written: with a digest, checked on reading.

A sealed file cannot pass for an older one without a digest. A binary file ends in its digest, and
its content says that there is one. A JSON object has a mark at its start and the digest at its end,
and either one demands the other. A row of a CSV ends in a digest that can be told from any value.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from softhebb_fast import files

SEAL = b"\nsofthebb_fast blake2b-128 %s\n"
LENGTH = len(SEAL) - len(b"%s") + 32
MARK, DIGEST = "sealed", "digest"
OF_ROW = re.compile("blake2b-64:[0-9a-f]{16}")
CHUNK = 1 << 20


class Damaged(ValueError):
    """A file that does not hold what was written to it."""


def write(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file, put the digest of its content behind that, and move it to
    ``path``, atomically.
    """

    def sealed(file: BinaryIO) -> None:
        write(file)
        length = file.seek(0, 2)
        file.write(SEAL % _digest_of(file, length).encode())

    files.write_atomically(path, sealed)


def is_sealed(file: BinaryIO) -> bool:
    """Whether ``file`` ends in a digest, which is that of its content. Leaves it at its start.

    Raises Damaged for the digest of another content.
    """
    length = max(0, file.seek(0, 2) - LENGTH)
    file.seek(length)
    found = _ending(file)
    if found is not None and found != _digest_of(file, length):
        raise Damaged("its content is not what was written, by its digest")
    file.seek(0)
    return found is not None


def digest_of(path: Path) -> str | None:
    """The digest that a binary file ends in, unchecked; None if it ends in none."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - LENGTH))
        return _ending(file)


def check_zip(file: BinaryIO) -> None:
    """Raise Damaged unless ``file`` is a zip archive whose members fit their check sums.

    ``torch.load`` and ``numpy.load`` look at none, or not at all of them.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
    except Exception as error:  # a damaged archive can fail in any way
        raise Damaged(f"no whole zip archive ({_text(error)})") from error
    if bad is not None:
        raise Damaged(f"the check sum of its member {bad} is another")
    file.seek(0)


def write_json(path: Path, content: dict[str, Any], indent: int = 2) -> None:
    """Write ``content`` as a JSON object with its digest, atomically."""
    files.write_text(path, json.dumps(with_digest(content), indent=indent) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON object, sealed or from before there were digests.

    Raises Damaged for anything else, and for another content than its digest's; OSError as
    ``open``.
    """
    return parse_json(path.read_bytes())


def parse_json(text: bytes) -> dict[str, Any]:
    """What `read_json` makes of the bytes of a file."""
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"it is no JSON ({_text(error)})") from error
    if not isinstance(content, dict):
        raise Damaged(f"it holds {str(content)[:80]!r}, no object")
    mark, digest = content.pop(MARK, None), content.pop(DIGEST, None)
    if (mark, digest) != (None, None) and (mark is not True or digest != _digest(content)):
        raise Damaged("its content is not what was written, by its digest")
    return content


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content``, which JSON can hold, between its mark and its digest."""
    return {MARK: True, **content, DIGEST: _digest(content)}


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write ``rows`` of texts, each with a digest behind it, as ``files.write_csv`` does."""
    sealed = ({**row, DIGEST: _digest_of_row(row)} for row in rows)
    files.write_csv(path, (*columns, DIGEST), sealed)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV, every value as text; a row may be from before there were digests.

    A row that is gone is not missed: every row vouches for itself alone, so that tables can be
    merged.

    Raises Damaged for what is no CSV, for a row with too many or too few cells, and for one that
    is not that of its digest; OSError as ``open``.
    """
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True)
        rows = list(reader)
    except (ValueError, csv.Error) as error:
        raise Damaged(f"it is no CSV ({_text(error)})") from error
    if len(names := reader.fieldnames or ()) != len(set(names)) or not names:
        raise Damaged("its first line must name every column once")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise Damaged(f"row {number} has not the {len(names)} cells of the first line")
        digest = row.pop(DIGEST, "")
        displaced = any(OF_ROW.search(value) for value in row.values())
        if displaced or (digest and digest != _digest_of_row(row)):
            raise Damaged(
                f"row {number} is not what was written, by its digest; a row edited by hand must "
                "have none"
            )
    return rows


def _ending(file: BinaryIO) -> str | None:
    pattern = re.escape(SEAL).replace(b"%s", b"([0-9a-f]{32})")
    found = re.fullmatch(pattern, file.read(LENGTH))
    return found and found[1].decode()


def _digest(content: Mapping[str, Any]) -> str:
    return _hash(json.dumps(content).encode()).hexdigest()


def _digest_of_row(row: Mapping[str, str]) -> str:
    return f"blake2b-64:{_digest(row)[:16]}"


def _digest_of(file: BinaryIO, length: int) -> str:
    """The digest of the first ``length`` bytes, behind which the file then stands."""
    file.seek(0)
    digest = _hash()
    while length and (part := file.read(min(CHUNK, length))):
        digest.update(part)
        length -= len(part)
    return digest.hexdigest()


def _hash(content: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(content, digest_size=16)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
