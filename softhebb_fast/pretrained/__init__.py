"""Trained networks as files to hand on: weights, configuration and figures in one, and a card.

    from softhebb_fast.pretrained import from_pretrained
    run = from_pretrained("DemoMNIST")     # in the package: no network connection is needed
    run.net                                # a torch module, in evaluation mode

Nothing of such a file is executed: it holds tensors and JSON, and a digest of both.
"""

from importlib import import_module
from typing import Any

PLACES = {"bundled": "folder", "from_pretrained": "folder", "save_pretrained": "folder"}

__all__ = list(PLACES)


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
