"""What a classifier may be shown of a whitened network, judged by held-out training images.

    python -m benchmarks.features.trials --data data     # into results/record_trials.csv

A quarter of `3WhitenedSoftHebbCnnCIFAR` learns from some training images. Ridge regression
on them and their mirror images, with a penalty by a tenth of them, is then judged by other training
images. So is every way to show it the layers' u. The best way is tried with other layers, too, and
with softmax regression. The test images take no part.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.features.options import parser
from softhebb_fast.data import ImageSet, batches
from softhebb_fast.experiments.definitions.nets import written
from softhebb_fast.experiments.definitions.record import NET, QUARTER, RIDGE
from softhebb_fast.files import write_csv
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.models.readout import windows
from softhebb_fast.nn import SplitTriangle, TopShare, Triangle
from softhebb_fast.presets import get_preset
from softhebb_fast.presets.types import Pool
from softhebb_fast.search.trial import Budget, HeldOut
from softhebb_fast.training import RidgeClassifier, SoftmaxClassifier
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.solved import SolvedClassifier

OUT = Path("results/record_trials.csv")
COLUMNS = (
    *("images", "network", "features", "classifier"),
    *("learned_from", "size", "accuracy", "penalty", "seed"),
)
CHUNK = 500
AT_ONCE = 4  # variants whose features are kept together: some GB
WINDOW, LEAST = 9, 0.05  # of local contrast: pixels across, and what is added to deviations

Maps = tuple[Tensor, Tensor]  # what layer 1 passes on, and the u of layer 2


def grid(x: Tensor, side: int) -> Tensor:
    return F.adaptive_avg_pool2d(x, side).flatten(1)


def overlapping(x: Tensor, side: int, share: float) -> Tensor:
    return F.avg_pool2d(x, *windows(x.shape[-1], side, share)).flatten(1)


def shown(activation: Callable[[Tensor], Tensor], power: float = 1.0, side: int = 3) -> Any:
    """Both layers, pooled, the second behind ``activation``, to a power."""
    return lambda maps: torch.cat([grid(maps[0], 4), grid(activation(maps[1]), side)], 1) ** power


def in_windows(share: float) -> Any:
    """Both layers in 3x3 windows that overlap, the second's both sides, to the power of 0.7."""
    return lambda maps: (
        torch.cat([overlapping(x, 3, share) for x in (maps[0], SplitTriangle()(maps[1]))], 1) ** 0.7
    )


def with_maxima(maps: Maps) -> Tensor:
    most = F.adaptive_max_pool2d(Triangle()(maps[1]), 3).flatten(1)
    return torch.cat([shown(Triangle())(maps), most], 1)


BEST = "both sides, power 0.7, windows of half the map"
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
    BEST: in_windows(0.5),
    "both sides, power 0.7, windows of two thirds": in_windows(0.66),
}
SOFTMAX = {"factors": [0.01, 0.02, 0.04], "iterations": 40}
CLASSIFIERS: dict[str, Callable[[int], SolvedClassifier]] = {
    "ridge": lambda classes: RidgeClassifier(classes, **RIDGE),
    "softmax": lambda classes: SoftmaxClassifier(classes, **SOFTMAX),
}
WHOLE = "as it is"


class Case(NamedTuple):
    """A network that learns, and what is judged of it: features and classifiers."""

    layers: str
    shown: Mapping[str, Sequence[str]]
    images: str = "as they are"
    change: Callable[[Tensor], Tensor] | None = None
    network: str = WHOLE


def cases(neuron_factor: float) -> list[Case]:
    first, second, head = get_preset(NET, neuron_factor=neuron_factor).layers
    every = dict.fromkeys(VARIANTS, ("ridge",))
    some = dict.fromkeys(("one side", "both sides, power 0.7"), ("ridge",))
    whole = written(first, second, head)
    others = {
        "second layer 5x5": (first, replace(second, kernel=5, padding=1)),
        "second layer padded": (first, replace(second, padding=1)),
        "both sides of the first layer": (replace(first, activation=("split", 1.0)), second),
        "first layer pooled in 4x4": (replace(first, pool=Pool("avg", 4, 2, 1)), second),
        "first layer 7x7": (replace(first, kernel=7, padding=3), second),
        "twice as wide first layer": (replace(first, out=2 * first.out), second),
        "twice as wide second layer": (first, replace(second, out=2 * second.out)),
    }
    return [
        Case(whole, {**every, BEST: ("ridge", "softmax")}),
        Case(whole, some, "of local contrast", local_contrast),
        *(
            Case(written(*layers, head), {BEST: ("ridge",)}, network=name)
            for name, layers in others.items()
        ),
    ]


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
        maps = below, second(below)
        for name in names:
            found[name].append(VARIANTS[name](maps))
    return {name: torch.cat(parts) for name, parts in found.items()}


def judged(run: Trial, wanted: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """A row for every classifier of each of the ``VARIANTS`` that are ``wanted``, all of the
    layers of ``run``."""
    net, learned, other = run.net.eval(), run.train_set, run.test_set
    net.blocks[-1].activation = None  # so that it gives u
    names, labels = list(wanted), learned.labels.repeat(2)
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        sides = [
            [features(net, images, some, mirrored) for mirrored in (False, True)]
            for images in (learned, other)
        ]
        for name in some:
            rows, shown = (torch.stack([side.pop(name) for side in both]) for both in sides)
            for kind in wanted[name]:
                classifier = CLASSIFIERS[kind](10)
                held = classifier.drawn(len(learned), run.config.seed).repeat(2)
                classifier.begin(len(labels), rows.shape[2], rows.device)
                for part in torch.arange(len(labels)).split(CHUNK):
                    classifier.add(rows.flatten(0, 1)[part], labels[part], held[part])
                classifier.solve()
                scores = classifier.scores(shown[0]) + classifier.scores(shown[1])
                right = (scores.argmax(1) == other.labels).double().mean()
                yield {
                    **{"features": name, "classifier": kind, "size": rows.shape[2]},
                    "accuracy": f"{100 * float(right):.2f}",
                    "penalty": f"{classifier.penalty:.3g}",
                }


def main(arguments: Sequence[str] | None = None) -> int:
    usual = {"images": 16_000, "validation": 5_000, "neuron_factor": QUARTER}
    asked = parser("trials", __doc__, OUT, **usual).parse_args(arguments)
    budget, rows = Budget(asked.images, asked.validation), []
    options = {"seed": asked.seed, "classifier": "ridge", "features": {"grid": 1}}
    for case in cases(asked.neuron_factor):
        config = RunConfig(case.layers, asked.dataset, "patches", **options)
        with tempfile.TemporaryDirectory(prefix="softhebb-trial-") as folder:
            run = Trial(case.change, budget, config, folder, root=asked.data)
            run.run()
            for row in judged(run, case.shown):
                about = {"images": case.images, "network": case.network}
                rows.append({**about, **row, "learned_from": asked.images, "seed": asked.seed})
                print(", ".join(f"{name} {rows[-1][name]}" for name in COLUMNS), flush=True)
    write_csv(asked.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
