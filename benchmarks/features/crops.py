"""What crops give a classifier of whitened layers, and tests of moved images, by held-out images.

    python -m benchmarks.features.crops --data data     # into results/record_crops.csv

A quarter of `3WhitenedSoftHebbCnnCIFAR` learns from some training images. A classifier learns from
them as they are, and from crops of several sizes: ridge regression, or with `--classifier softmax`
softmax regression. Each is judged by other training images, as they are and by the mean of the
scores of nine: moved by so many pixels in eight directions. The test images take no part.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.features.options import parser
from softhebb_fast.data import ImageSet, RandomCropFlip, batches
from softhebb_fast.experiments.definitions.record import (
    MIRRORED,
    OVERLAP,
    QUARTER,
    RIDGE,
    RUN,
    SOFTMAX,
)
from softhebb_fast.files import write_csv
from softhebb_fast.models import SoftHebbNet, Views
from softhebb_fast.search.trial import Budget, HeldOut
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.features import flat_features, images_at_once
from softhebb_fast.training.ridge import RidgeSettings
from softhebb_fast.training.softmax import SoftmaxSettings
from softhebb_fast.training.solved import SolvedClassifier, SolverSettings
from softhebb_fast.training.solved_stage import SolvedStage
from softhebb_fast.training.stage import BatchSource

OUT = Path("results/record_crops.csv")
COLUMNS = (
    *("dataset", "classifier", "padding", "passes", "penalty", "shifts", "accuracy"),
    *("learned_from", "judged_by", "seed"),
)
PADDINGS, SHIFTS = (0, 1, 2, 4), (0, 1, 2, 4)
PASSES = 2
CHUNK = 500
SETTINGS: Mapping[str, SolverSettings] = {
    "ridge": RidgeSettings(factors=[*RIDGE["factors"], 0.1]),
    "softmax": SoftmaxSettings(**SOFTMAX["softmax"]),
}
FEATURES = {  # digits have no mirror images
    ("mnist", "ridge"): OVERLAP,
    ("mnist", "softmax"): SOFTMAX["features"],
}


def passes(padding: int) -> int:
    """How often the images are taken: those that are not cropped would be the same again."""
    return PASSES if padding else 1


def fitted(
    net: SoftHebbNet, images: ImageSet, settings: SolverSettings, padding: int, seed: int
) -> SolvedClassifier:
    """The classifier of ``images``, or of crops of them, padded by so many pixels."""
    crops = RandomCropFlip(padding, flip=0) if padding else None
    learned, judged = BatchSource(images, net.below_head, crops), BatchSource(images, [])
    stage = SolvedStage(net, learned, judged, settings, passes(padding), CHUNK, CHUNK, seed)
    for _ in stage.up_to(stage.epochs * stage.per_epoch - 1):
        pass
    return stage.classifier


@torch.no_grad()
def accuracies(
    net: SoftHebbNet, images: ImageSet, classifiers: Mapping[int, SolvedClassifier]
) -> dict[tuple[int, int], float]:
    """The accuracy in per cent of each of the ``classifiers``, by its key and how far ``images``
    are moved."""
    right: dict[tuple[int, int], int] = {}
    for x, labels in batches(images, CHUNK):
        for shifts, found in seen(net, x):
            for key, classifier in classifiers.items():
                correct = int((classifier.predict(found) == labels).sum())
                right[key, shifts] = right.get((key, shifts), 0) + correct
    return {key: 100 * count / len(images) for key, count in right.items()}


def seen(net: SoftHebbNet, x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The mean features over the views of ``x`` moved so far, for each of ``SHIFTS``.

    The mean of their scores is the score of this mean.
    """
    below = net.below_head
    most = images_at_once(below, x, CHUNK)
    alone = flat_features(below, x, most)
    for shifts in SHIFTS:
        views = Views(shifts=shifts)
        others = (flat_features(below, view, most) for view in islice(views(x), 1, None))
        yield shifts, sum(others, alone) / len(views)


def main(arguments: Sequence[str] | None = None) -> int:
    usual = {"images": 16_000, "validation": 4_000, "neuron_factor": QUARTER}
    known = parser("crops", __doc__, OUT, **usual)
    known.add_argument("--classifier", choices=SETTINGS, default="ridge")
    asked = known.parse_args(arguments)
    features = FEATURES.get((asked.dataset, asked.classifier), MIRRORED["features"])
    options = {"dataset": asked.dataset, "neuron_factor": asked.neuron_factor, "seed": asked.seed}
    config = RunConfig(**RUN | options | {"features": features})
    with tempfile.TemporaryDirectory(prefix="softhebb-trial-") as folder:
        run = HeldOut(Budget(asked.images, asked.validation), config, folder, root=asked.data)
        run.run()
    net, settings, classifiers = run.net.eval(), SETTINGS[asked.classifier], {}
    for padding in PADDINGS:
        classifiers[padding] = fitted(net, run.train_set, settings, padding, asked.seed)
        print(f"padding {padding}: penalty {classifiers[padding].penalty:.3g}", flush=True)
    rows: list[dict[str, Any]] = []
    for (padding, shifts), accuracy in accuracies(net, run.test_set, classifiers).items():
        row = {"dataset": asked.dataset, "classifier": asked.classifier}
        row |= {"padding": padding, "shifts": shifts}
        row |= {"passes": passes(padding), "accuracy": f"{accuracy:.2f}"}
        row |= {"penalty": f"{classifiers[padding].penalty:.3g}", "seed": asked.seed}
        rows.append({**row, "learned_from": asked.images, "judged_by": asked.validation})
    write_csv(asked.out, COLUMNS, sorted(rows, key=lambda row: (row["padding"], row["shifts"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
