"""Where the layers of a whitened network should start, judged by held-out images.

    python -m benchmarks.features.starts --data data     # into results/record_starts.csv

A quarter of `3WhitenedSoftHebbCnnCIFAR` starts in several ways and learns from some training images
in one epoch. Ridge regression on what the record runs show their classifier is judged by other
training images, in the mean over seeds. The test images take no part.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks.features.held_out import judged
from benchmarks.features.options import parser
from softhebb_fast.experiments.definitions.record import DETERMINISTIC, QUARTER, RUN
from softhebb_fast.files import write_csv
from softhebb_fast.init import Init
from softhebb_fast.search.trial import Budget
from softhebb_fast.training.config import RunConfig

OUT = Path("results/record_starts.csv")


class Case(NamedTuple):
    """How the first and the second layer start, and for how many epochs both learn."""

    name: str
    first: Init
    second: Init
    epochs: int = 1


TRIED = (
    Case("sampled patches", "patches", "patches"),
    Case("random", "normal", "normal"),
    Case("patches, then random", "patches", "normal"),
    Case("random, then patches", "normal", "patches"),
    Case("k-means centres", "kmeans", "kmeans"),
    Case("flat rows, deterministic", DETERMINISTIC, DETERMINISTIC),
    Case("sampled patches, nothing learned", "patches", "patches", 0),
    Case("random, nothing learned", "normal", "normal", 0),
)
COLUMNS = ("start", "accuracy", "seeds", "norm_means", "learned_from", "judged_by")


def main(arguments: Sequence[str] | None = None) -> int:
    usual = {"images": 16_000, "validation": 10_000, "neuron_factor": QUARTER}
    options = parser("starts", __doc__, OUT, **usual)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    asked = options.parse_args(arguments)
    budget, rows = Budget(asked.images, asked.validation), []
    run = {**RUN, "dataset": asked.dataset, "neuron_factor": asked.neuron_factor}
    for case in TRIED:
        config = {**run, "init": {0: case.first, 1: case.second}, "unsup_epochs": case.epochs}
        found = [judged(RunConfig(**config, seed=s), budget, asked.data) for s in asked.seeds]
        row: dict[str, Any] = {
            "start": case.name,
            "accuracy": round(mean(accuracy for accuracy, _ in found), 2),
            "seeds": " ".join(f"{accuracy:.2f}" for accuracy, _ in found),
            "norm_means": " ".join(f"{r['norm_mean']:.3f}" for r in found[0][1].values()),
            "learned_from": asked.images,
            "judged_by": asked.validation,
        }
        rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        write_csv(asked.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
