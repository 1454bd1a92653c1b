"""Names that were mistyped."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """``"; did you mean A or B?"`` of the names most like ``name`` in any case, "" if none is."""
    lowered = {known.lower(): known for known in names}
    close = [lowered[match] for match in get_close_matches(str(name).lower(), lowered)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
