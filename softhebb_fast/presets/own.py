"""The networks of this project, and the classifier that every network is measured against."""

from __future__ import annotations

from .blocks import head, triangle
from .types import Layer, Preset

OWN = (
    Preset(
        "DemoMNIST",
        (
            Layer(
                "linear",
                "soft_anti",
                1000,
                t_invert=12,
                lr=0.1,
                lr_power=0.5,
                radius=5,
                activation=triangle(1),
            ),
            head(0),
        ),
    ),
    Preset("Linear", (head(0),)),  # a linear classifier of the pixels themselves
)
