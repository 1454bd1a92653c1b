"""Numbers as users have them: Python's, NumPy's, any ``numbers.Real``, arrays and tensors without
dimensions. They become plain ints and floats here, so that schemas, reprs and files stay plain.

The standard library is enough to read them.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def plain(value: Any) -> Any:
    """``value`` as an int or a float if it is a number, a bool if it is one; else as it is."""
    if type(value) in (int, float):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            value = value.item()
        except (RuntimeError, NotImplementedError):  # a tensor on the meta device has no value
            return value
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def whole(name: str, value: Any, least: int | None = None) -> int:
    """``value`` as an int. Raises TypeError or ValueError, naming it, for anything else, a bool
    too, and for less than ``least``."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be an int; got {value!r}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}; got {number}")
    return number


def number(name: str, value: Any) -> float:
    """``value`` as a float, NaN and infinity included.

    Raises TypeError, naming it, for anything else, a bool too; ValueError if no float is so large.
    """
    if type(value) is float:
        return value
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise TypeError(f"{name} must be a number; got {value!r}")
    try:
        return float(found)
    except OverflowError:
        raise ValueError(f"{name} must be finite; got {value!r}") from None


def positive(name: str, value: Any) -> float:
    """``value`` as a positive, finite float. Raises TypeError or ValueError, naming it."""
    found = number(name, value)
    if not 0 < found < math.inf:
        raise ValueError(f"{name} must be positive and finite; got {value!r}")
    return found


def between(name: str, value: Any, low: float, high: float) -> float:
    """``value`` as a float above ``low`` and below ``high``. Raises TypeError or ValueError, naming
    it."""
    found = number(name, value)
    if not low < found < high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}; got {value!r}")
    return found


def at_least_zero(name: str, value: Any) -> float:
    """``value`` as a finite float, not negative. Raises TypeError or ValueError, naming it."""
    found = number(name, value)
    if not 0 <= found < math.inf:
        raise ValueError(f"{name} must be finite and not negative; got {value!r}")
    return found
