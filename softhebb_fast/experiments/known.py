"""What is known of a preset: its data set, its size there, and the accuracies that it reached."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from softhebb_fast.experiments import EXPERIMENTS
from softhebb_fast.models import build
from softhebb_fast.presets import Preset, published_dataset
from softhebb_fast.pretrained import bundled, from_pretrained

SHAPES = {  # of the images as they are published, and how many classes
    "mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "stl10": ((3, 96, 96), 10),
    "imagenet": ((3, 160, 160), 1000),
}
DEFAULTS = {"preset", "dataset", "init"}  # of a cell that changes nothing of the preset


@dataclass(frozen=True)
class Known:
    """What is known of a preset on one data set.

    Attributes:
        dataset: the one it was published for, MNIST if none is known.
        parameters: weights and biases of the network for that data set.
        published: test accuracy in per cent where it was published, else None.
        bundled: that of the weights in the package, else None.
    """

    dataset: str
    parameters: int
    published: float | None
    bundled: float | None

    def __str__(self) -> str:
        parts = [f"{self.dataset}: {self.parameters:,} parameters"]
        if self.published is not None:
            parts.append(f"published {self.published:.2f} %")
        if self.bundled is not None:
            parts.append(f"weights in the package {self.bundled:.2f} %")
        return ", ".join(parts)


def known(preset: Preset) -> Known:
    """What is known of ``preset``."""
    dataset = published_dataset(preset.name) or "mnist"
    with torch.device("meta"):
        net = build(preset, *SHAPES[dataset])
    parameters = sum(p.numel() for p in net.parameters())
    own = None
    if preset.name in bundled():
        rows = from_pretrained(preset.name).rows
        own = next(row["test_accuracy"] for row in reversed(rows) if "test_accuracy" in row)
    return Known(dataset, parameters, _published(preset.name, dataset), own)


def _published(name: str, dataset: str) -> float | None:
    """The accuracy that a table or figure has of the preset as it is."""
    for experiment in EXPERIMENTS.values():
        for cell in experiment.cells:
            run, accuracy = cell.run, cell.published.get("test_accuracy")
            as_it_is = run.keys() <= DEFAULTS and run.get("init") in (None, "normal")
            itself = (run.get("preset"), run.get("dataset")) == (name, dataset)
            if itself and as_it_is and cell.comparable and accuracy is not None:
                return accuracy
    return None
