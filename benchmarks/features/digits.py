"""What a classifier of digits is shown, and which it is, by held-out images.

    python -m benchmarks.features.digits --data data     # into results/record_digits.csv

A quarter of `3WhitenedSoftHebbCnnCIFAR` learns from some training images of MNIST. A classifier
that sees its layers pooled to grids of several sizes is judged by other training images. The test
images take no part.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.features.held_out import judged
from benchmarks.features.options import parser
from softhebb_fast.experiments.definitions.record import OVERLAP, QUARTER, RUN, SOFTMAX
from softhebb_fast.files import write_csv
from softhebb_fast.search.trial import Budget
from softhebb_fast.training.config import RunConfig

OUT = Path("results/record_digits.csv")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ridge": {"factors": [1e-4, 1e-3, 1e-2]},
    "softmax": SOFTMAX["softmax"],
}


class Case(NamedTuple):
    """The windows that maps are pooled in, see ``models.Selection``, and the classifier."""

    grid: int
    window: float
    classifier: str = "ridge"

    def run(self) -> dict[str, Any]:
        features = {**OVERLAP, "grid": self.grid, "window": self.window}
        own = {name: None for name in SETTINGS} | {self.classifier: SETTINGS[self.classifier]}
        return {**RUN, "features": features, "classifier": self.classifier, **own}


TRIED = (
    Case(3, 0.5),
    Case(3, 0.5, "softmax"),
    Case(4, 0.4),
    Case(4, 0.4, "softmax"),
    Case(5, 0.33),
)
COLUMNS = (*Case._fields, "accuracy", "dataset", "learned_from", "judged_by", "seed")


def main(arguments: Sequence[str] | None = None) -> int:
    usual = {"dataset": "mnist", "images": 20_000, "validation": 10_000, "neuron_factor": QUARTER}
    asked = parser("digits", __doc__, OUT, **usual).parse_args(arguments)
    budget, rows = Budget(asked.images, asked.validation), []
    run = {"dataset": asked.dataset, "seed": asked.seed, "neuron_factor": asked.neuron_factor}
    about = {"dataset": asked.dataset, "seed": asked.seed}
    about |= {"learned_from": asked.images, "judged_by": asked.validation}
    for case in TRIED:
        accuracy, _ = judged(RunConfig(**case.run() | run), budget, asked.data)
        rows.append({**case._asdict(), "accuracy": f"{accuracy:.2f}", **about})
        print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    write_csv(asked.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
