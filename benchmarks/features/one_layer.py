"""One layer of whitened patches that learns, against its sampled patches, by held-out images.

    python -m benchmarks.features.one_layer --data data     # into results/one_layer.csv

A quarter of `2WhitenedSoftHebbCnnCIFAR` starts from sampled patches and learns from some training
images, or stays as it starts. Ridge regression on what the record runs show their classifier is
judged by other training images. The test images take no part.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.features.held_out import judged
from benchmarks.features.options import parser
from softhebb_fast.experiments.definitions.nets import written
from softhebb_fast.experiments.definitions.record import ONE_LAYER, ONE_LAYER_RUN
from softhebb_fast.files import write_csv
from softhebb_fast.presets import Layer, get_preset
from softhebb_fast.presets.types import Schedule
from softhebb_fast.search.trial import Budget
from softhebb_fast.training.config import RunConfig

OUT = Path("results/one_layer.csv")


class Case(NamedTuple):
    """ε of the whitening, how the layer learns, and for how many epochs; see ``presets.Layer``."""

    epsilon: float = 0.1
    radius: float = 6.0
    t_invert: float = 4.0
    lr: float = 0.04
    schedule: Schedule = "norm"
    epochs: int = 1

    def layer(self, layer: Layer) -> Layer:
        changed = self._asdict()
        whiten = replace(layer.whiten, epsilon=changed.pop("epsilon"))
        del changed["epochs"]
        return replace(layer, whiten=whiten, **changed)


TRIED = (
    Case(epochs=0),
    Case(),
    Case(lr=0.015),
    Case(lr=0.005),
    Case(epochs=3),
    Case(t_invert=16.0),
    Case(radius=1.5, t_invert=12.0, lr=0.02, schedule="linear"),
)
COLUMNS = (*Case._fields, "accuracy", "norm_mean", "winner_entropy", "images", "filters", "seed")


def main(arguments: Sequence[str] | None = None) -> int:
    usual = {"images": 16_000, "validation": 16_000, "neuron_factor": 0.25}
    asked = parser("one_layer", __doc__, OUT, **usual).parse_args(arguments)
    layer, head = get_preset(ONE_LAYER, neuron_factor=asked.neuron_factor).layers
    budget, rows = Budget(asked.images, asked.validation), []
    run = {**ONE_LAYER_RUN, "dataset": asked.dataset, "seed": asked.seed}
    for case in TRIED:
        run["preset"] = written(case.layer(layer), head)
        config = RunConfig(**run, unsup_epochs=case.epochs)
        accuracy, layers = judged(config, budget, asked.data)
        row: dict[str, Any] = {**case._asdict(), "accuracy": accuracy}
        if case.epochs:
            row |= {name: f"{layers[1][name]:.3f}" for name in ("norm_mean", "winner_entropy")}
        rows.append({**row, "images": asked.images, "filters": layer.out, "seed": asked.seed})
        print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    write_csv(asked.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
