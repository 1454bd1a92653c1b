"""Networks: those of presets, which learn by the Hebbian rule, and ordinary ones by name.

An ordinary network is a function of the images' shape, the number of classes and options of its
own; `network("constnet", (3, 32, 32), 10, widen=1)` builds one. All are made on the CPU in float32,
from torch's global generator.
"""

from softhebb_fast.models.published import load_published
from softhebb_fast.models.readout import Readout, Selection
from softhebb_fast.models.registry import NETWORKS, network
from softhebb_fast.models.side_by_side import SideBySide
from softhebb_fast.models.softhebb import (
    ACTIVATIONS,
    SoftHebbNet,
    build,
    evaluation_mode,
    features,
    whitening,
)
from softhebb_fast.models.views import Views

__all__ = [
    "ACTIVATIONS",
    "NETWORKS",
    "Readout",
    "Selection",
    "SideBySide",
    "SoftHebbNet",
    "Views",
    "build",
    "evaluation_mode",
    "features",
    "load_published",
    "network",
    "whitening",
]
