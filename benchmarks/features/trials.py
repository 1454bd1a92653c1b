"""What a classifier may be shown of a whitened network, judged by held-out training images.

    python -m benchmarks.features.trials --data data     # into results/record_trials.csv

A quarter of `3WhitenedSoftHebbCnnCIFAR` learns from some training images. Ridge regression on
them and their mirror images, with a penalty by a tenth of them, is then judged by other training
images: for every way to show it the layers' u. The test images take no part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.data import ImageSet, batches
from softhebb_fast.experiments.definitions.record import NET, QUARTER, RIDGE
from softhebb_fast.files import write_csv
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.nn import SplitTriangle, TopShare, Triangle
from softhebb_fast.search.trial import Budget, HeldOut
from softhebb_fast.training import RidgeClassifier
from softhebb_fast.training.config import RunConfig

OUT = Path("results/record_trials.csv")
COLUMNS = ("images", "features", "learned_from", "size", "accuracy", "penalty", "seed")
CHUNK = 500
WINDOW, LEAST = 9, 0.05  # of local contrast: pixels across, and what is added to deviations

Maps = tuple[Tensor, Tensor]  # what layer 1 passes on, and the u of layer 2


def grid(x: Tensor, side: int) -> Tensor:
    return F.adaptive_avg_pool2d(x, side).flatten(1)


def shown(activation: Callable[[Tensor], Tensor], power: float = 1.0, side: int = 3) -> Any:
    """Both layers, pooled, the second behind ``activation``, to a power."""
    return lambda maps: torch.cat([grid(maps[0], 4), grid(activation(maps[1]), side)], 1) ** power


def with_maxima(maps: Maps) -> Tensor:
    most = F.adaptive_max_pool2d(Triangle()(maps[1]), 3).flatten(1)
    return torch.cat([shown(Triangle())(maps), most], 1)


VARIANTS: dict[str, Callable[[Maps], Tensor]] = {
    "one side": shown(Triangle()),
    "one side, power 0.7": shown(Triangle(), 0.7),
    "one side, power 0.5": shown(Triangle(), 0.5),
    "one side, second layer pooled to 4x4": shown(Triangle(), side=4),
    "one side, and its maxima": with_maxima,
    "one side, of length 1": lambda maps: F.normalize(shown(Triangle())(maps)),
    "two fifths of the units": shown(TopShare(0.4)),
    "both sides": shown(SplitTriangle()),
    "both sides, power 0.7": shown(SplitTriangle(), 0.7),
    "both sides, power 0.5": shown(SplitTriangle(), 0.5),
    "both sides, power 0.7, second layer alone": lambda maps: (
        grid(SplitTriangle()(maps[1]), 3) ** 0.7
    ),
}


def local_contrast(x: Tensor) -> Tensor:
    """Images ``[B, C, H, W]`` less their mean around a pixel, by the deviation there."""
    steps = torch.arange(WINDOW) - WINDOW // 2
    kernel = torch.exp(-steps.square() / (2 * (WINDOW / 4) ** 2))
    kernel = torch.outer(kernel, kernel).div(kernel.sum() ** 2).view(1, 1, WINDOW, WINDOW)

    def around(values: Tensor) -> Tensor:
        values = F.pad(values, [WINDOW // 2] * 4, mode="reflect")
        return F.conv2d(values, kernel)

    centred = x - around(x.mean(1, keepdim=True))
    return centred / (around(centred.square().mean(1, keepdim=True)).sqrt() + LEAST)


class Trial(HeldOut):
    """A run whose images may be changed first."""

    def __init__(self, change: Callable[[Tensor], Tensor] | None, *given: Any, **more: Any) -> None:
        self.change = change
        super().__init__(*given, **more)

    def _load_data(self, device: torch.device) -> None:
        super()._load_data(device)
        if self.change is not None:
            self.train_set = self.unsup_set = changed(self.train_set, self.change)
            self.test_set = changed(self.test_set, self.change)


def changed(images: ImageSet, change: Callable[[Tensor], Tensor]) -> ImageSet:
    parts = [change(x) for x, _ in batches(images, CHUNK)]
    return replace(images, images=torch.cat(parts))


@torch.no_grad()
def features(
    net: SoftHebbNet, images: ImageSet, names: Sequence[str], mirrored: bool
) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    first, second = net.blocks
    for x, _ in batches(images, CHUNK):
        below = first(x.flip(-1) if mirrored else x)
        maps = below, second.layer(second.norm(below))
        for name in names:
            found[name].append(VARIANTS[name](maps))
    return {name: torch.cat(parts) for name, parts in found.items()}


def judged(run: Trial, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each of the ``VARIANTS`` named, all of the layers of ``run``."""
    net, learned, other = run.net.eval(), run.train_set, run.test_set
    sides = [
        [features(net, images, names, mirrored) for mirrored in (False, True)]
        for images in (learned, other)
    ]
    for name in names:
        rows = torch.cat([side.pop(name) for side in sides[0]])
        classifier = RidgeClassifier(10, **RIDGE).begin(*rows.shape, rows.device)
        held = classifier.drawn(len(learned), run.config.seed).repeat(2)
        labels = learned.labels.repeat(2)
        for part in torch.arange(len(rows)).split(CHUNK):
            classifier.add(rows[part], labels[part], held[part])
        classifier.solve()
        scores = sum(classifier.scores(side.pop(name)) for side in sides[1])
        right = (scores.argmax(1) == other.labels).double().mean()
        yield {
            "features": name,
            "size": rows.shape[1],
            "accuracy": f"{100 * float(right):.2f}",
            "penalty": f"{classifier.penalty:.3g}",
        }


def main(arguments: Sequence[str] | None = None) -> int:
    prog = "python -m benchmarks.features.trials"
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data", default=None, help="folder of the data sets")
    parser.add_argument("--images", type=int, default=16_000, help="that are learned from")
    parser.add_argument("--validation", type=int, default=5_000, help="others, which judge")
    parser.add_argument("--neuron-factor", type=float, default=QUARTER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    budget, rows = Budget(asked.images, asked.validation), []
    options = {"neuron_factor": asked.neuron_factor, "seed": asked.seed, "classifier": "ridge"}
    config = RunConfig(NET, asked.dataset, "patches", **options, features={"grid": 1})
    for label, change, names in (
        ("as they are", None, list(VARIANTS)),
        ("of local contrast", local_contrast, ["one side", "both sides, power 0.7"]),
    ):
        with tempfile.TemporaryDirectory(prefix="softhebb-trial-") as folder:
            run = Trial(change, budget, config, folder, root=asked.data)
            run.run()
            for row in judged(run, names):
                rows.append({"images": label, "learned_from": asked.images, **row})
                rows[-1]["seed"] = asked.seed
                print(", ".join(f"{name} {rows[-1][name]}" for name in COLUMNS), flush=True)
    write_csv(asked.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
