"""The networks of this project, and the classifier that every network is measured against."""

from __future__ import annotations

from .blocks import head, triangle
from .types import Layer, Pool, Preset
from .whitening import Whitening

LEARNING = {
    "t_invert": 4.0,
    "lr": 0.04,
    "lr_power": 0.5,
    "radius": 3.0,
}
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
    Preset(
        "2WhitenedSoftHebbCnnCIFAR",
        (
            Layer(
                "conv",
                "soft_anti",
                2048,
                6,
                **LEARNING | {"radius": 6.0},
                activation=triangle(1),
                batch_norm=False,
                whiten=Whitening(epsilon=0.1, contrast=0.00015, images=10_000),
            ),
            head(0),
        ),
    ),
    Preset(
        "3WhitenedSoftHebbCnnCIFAR",
        (
            Layer(
                "conv",
                "soft_anti",
                128,
                5,
                2,
                **LEARNING,
                activation=triangle(1),
                batch_norm=False,
                whiten=Whitening(epsilon=0.02, contrast=0.00015, images=10_000),
                pool=Pool("avg", 3, 2, 1),
            ),
            Layer(
                "conv",
                "soft_anti",
                1024,
                3,
                **LEARNING,
                activation=("split", 1.0),
                batch_norm=False,
                whiten=Whitening(epsilon=1.0, contrast=0.001, images=10_000),
            ),
            head(0),
        ),
    ),
    Preset("Linear", (head(0),)),  # a linear classifier of the pixels themselves
)
