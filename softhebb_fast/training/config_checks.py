"""Checks of the plain values that define a run, each of which names what does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from softhebb_fast.data import Reading
from softhebb_fast.scalars import plain


def checked_number(name: str, value: Any, least: float) -> int | float:
    """``value`` as a plain number, whole where ``least`` is. Raises unless it is one, of at least
    ``least``."""
    found, kinds = plain(value), int if isinstance(least, int) else int | float
    if isinstance(found, bool) or not isinstance(found, kinds):
        text = "a whole number" if kinds is int else "a number"
        raise TypeError(f"{name} must be {text}; got {value!r}")
    if not found >= least:
        raise ValueError(f"{name} must be at least {least:g}; got {value!r}")
    return found


def check_seed(seed: int) -> None:
    """Raise unless ``seed`` is one that a generator takes."""
    seed = checked_number("seed", seed, 0)
    if seed >= 2**64:
        raise ValueError(f"seed must be below 2**64; got {seed}")


def check_plain(name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` can be written as JSON."""
    try:
        json.dumps(value)
    except TypeError:
        raise TypeError(
            f"{name} must be of plain values, which can be kept in a file; got {value!r}"
        ) from None


def check_reading(reading: Any) -> None:
    """Raise unless ``reading`` is None or a dict of options for reading images."""
    if reading is None:
        return
    if not isinstance(reading, dict):
        raise TypeError(f"reading must be a dict of options of data.load; got {reading!r}")
    checked_keys("reading", reading, Reading)
    check_plain("reading", reading)
    Reading(**reading)


def checked_keys(name: str, values: Any, kind: type) -> dict[str, Any]:
    """``values`` if they are a dict of fields of ``kind``. Raises TypeError or ValueError."""
    known = {f.name for f in fields(kind)}
    if not isinstance(values, dict):
        raise TypeError(f"{name} must be a dict of {', '.join(sorted(known))}; got {values!r}")
    if unknown := sorted(map(str, set(values) - known)):
        raise ValueError(f"{name} must hold {', '.join(sorted(known))}; got {', '.join(unknown)}")
    return values


def checked_steps(steps: Iterable[int], name: str = "symmetry_steps") -> tuple[int, ...]:
    """Steps as a tuple. Raises unless they are whole numbers from 0 on."""
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise TypeError(f"{name} must be whole numbers; got {steps!r}")
    return tuple(checked_number(name, step, 0) for step in steps)
