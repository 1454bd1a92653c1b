"""The networks of this project."""

from __future__ import annotations

from .blocks import AVG, head, soft
from .types import Preset

OWN = (Preset("DemoMNIST", (soft(64, 7, 3, 3, 0.2, 1, AVG), head())),)
