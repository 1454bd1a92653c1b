"""Trained networks as files to hand on: weights, configuration and figures in one, and a card.

    from softhebb_fast.pretrained import from_pretrained
    run = from_pretrained("DemoMNIST")     # in the package: no network connection is needed
    run.net                                # a torch module, in evaluation mode

Nothing of such a file is executed: it holds tensors and JSON, and a digest of both.
"""

from typing import TYPE_CHECKING

from softhebb_fast.lazy import lazily

if TYPE_CHECKING:
    from softhebb_fast.pretrained.folder import bundled as bundled
    from softhebb_fast.pretrained.folder import from_pretrained as from_pretrained
    from softhebb_fast.pretrained.folder import save_pretrained as save_pretrained

PLACES = {"bundled": "folder", "from_pretrained": "folder", "save_pretrained": "folder"}

__all__ = list(PLACES)

if not TYPE_CHECKING:  # which would take any name for one that there is
    __getattr__, __dir__ = lazily(__name__, PLACES)
