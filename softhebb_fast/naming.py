"""Names as users write them: what an initialisation's text says, and what a mistyped one meant."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """``"; did you mean A or B?"`` of the names most like ``name`` in any case, "" if none is."""
    lowered = {known.lower(): known for known in names}
    close = [lowered[match] for match in get_close_matches(str(name).lower(), lowered)]
    return f"; did you mean {' or '.join(close)}?" if close else ""


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Settings written as ``["layers=1,2", "grid=4", "pool=max"]``, by name: numbers, ``true`` and
    ``false`` as such, what has commas as a list, all else as text.

    Raises ValueError for a text that is none of these, and for a name that is given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in found:
            raise ValueError(f"settings must look like 'name=value', each once; got {text!r}")
        values = [_plain(part) for part in value.split(",")]
        found[name] = values if "," in value else values[0]
    return found


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def parse_init(text: str) -> Any:
    """An initialisation from its text, as the command line and every `init` argument take it.

    "zerO" (which stays a name); "zerO:scale=fork,noise=0.01"; by layer, counted from 1:
    "1=zerO;3=random_binary" (the others are normal).

    Raises ValueError for a `text` that is none of these; names are not looked up here.
    """
    if "=" in text.split(":")[0]:
        pairs = (part.partition("=")[::2] for part in text.split(";"))
        layers: dict[int, Any] = {}
        for layer, init in pairs:
            if not (init and layer.strip().isdecimal()):
                raise ValueError(
                    f"init by layer must look like '1=zerO;3=random_binary'; got {text!r}"
                )
            if int(layer) - 1 in layers:
                raise ValueError(f"init by layer must name each once; got {layer} twice")
            layers[int(layer) - 1] = parse_init(init)
        return layers
    name, _, settings = text.partition(":")
    if not settings:
        return name
    result: dict[str, Any] = {"name": name}
    for setting in settings.split(","):
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"init settings must look like 'scale=fork'; got {setting!r}")
        if key in result:
            raise ValueError(f"init settings must be given once each; got {key!r} twice")
        try:
            result[key] = json.loads(value)
        except json.JSONDecodeError:
            result[key] = value
    return result
