"""What becomes of a file by accident: bytes in, other bytes out, by a seeded generator."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path

ENDS = 300  # bytes at the start and the end of a file, where formats keep what they need


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit is another; in every second case near the start or the end."""
    found, place = bytearray(data), rng.randrange(len(data))
    if rng.random() < 0.5:
        place = rng.choice((place % ENDS, -1 - place % ENDS)) % len(data)
    found[place] ^= 1 << rng.randrange(8)
    return bytes(found)


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is gone."""
    return data[: rng.randrange(len(data))]


def grow(data: bytes, rng: random.Random) -> bytes:
    """There is more, at the end in every second case."""
    more = rng.randbytes(_length(data, rng))
    place = len(data) if rng.random() < 0.5 else rng.randrange(len(data))
    return data[:place] + more + data[place:]


def swap(data: bytes, rng: random.Random) -> bytes:
    """Two blocks have changed places."""
    length = _length(data, rng)
    first, second = sorted(rng.randrange(len(data) - length + 1) for _ in range(2))
    length = min(length, second - first)
    a, b = data[first : first + length], data[second : second + length]
    return data[:first] + b + data[first + length : second] + a + data[second + length :]


def zero(data: bytes, rng: random.Random) -> bytes:
    """A block is zeros."""
    length = _length(data, rng)
    place = rng.randrange(len(data) - length + 1)
    return data[:place] + bytes(length) + data[place + length :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    damage.__name__: damage for damage in (flip, cut, grow, swap, zero)
}


class Trap:
    """Makes the folder ``path`` when it is unpickled by what runs code from data."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.path,)


def trap(path: Path) -> bytes:
    """A pickle that makes the folder ``path``."""
    return pickle.dumps({"data": Trap(path)}, protocol=2)


def _length(data: bytes, rng: random.Random) -> int:
    """Of a block: from 1 byte to a third of the file, small ones as often as large ones."""
    return max(1, int((len(data) / 3) ** rng.random()))
