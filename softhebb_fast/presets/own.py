"""The networks of this project, and the classifier that every network is measured against."""

from __future__ import annotations

from .blocks import AVG, head, soft
from .types import Preset

OWN = (
    Preset("DemoMNIST", (soft(64, 7, 3, 3, 0.2, 1, AVG), head())),
    Preset("Linear", (head(0.0),)),
)
