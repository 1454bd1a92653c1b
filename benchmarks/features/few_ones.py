"""How few ones a start of zeros and ones should have, layer after layer, by held-out images.

    python -m benchmarks.features.few_ones --data data     # into results/few_ones.csv

The published CIFAR-10 network is built up from below. Every layer is tried with `residue_binary` of
several shares of ones, and with random filters beside them, above the best of those that came
before. A trial learns from some training images, and ridge regression on its last layer, pooled to
4x4, is judged by others. The test images take no part.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.features.held_out import judged
from benchmarks.features.options import parser
from softhebb_fast.experiments.definitions.nets import CIFAR_NET, written
from softhebb_fast.files import write_csv
from softhebb_fast.presets import Layer, get_preset
from softhebb_fast.search.trial import Budget
from softhebb_fast.training.config import RunConfig

OUT = Path("results/few_ones.csv")
COLUMNS = ("layer", "below", "every", "accuracy", "norm_mean", "winner_entropy", "images", "seed")
TRIED = ((4, 8, 16), (8, 16, 32), (16, 32, 64))  # one entry of so many is a one, by layer
JUDGED = {
    "classifier": "ridge",
    "ridge": {"factors": [1e-3, 1e-2, 1e-1]},
    "features": {"grid": 4, "power": 0.5},
}


def trial(
    layers: Sequence[Layer],
    every: Sequence[int | None],
    budget: Budget,
    data: str | None,
    **options: Any,
) -> dict[str, Any]:
    """What becomes of the lowest of ``layers`` of which one entry of so many is a one; None for
    random filters. The last of them is the classifier."""
    init = {i: {"name": "residue_binary", "every": n} for i, n in enumerate(every) if n}
    network = written(*layers[: len(every)], layers[-1])
    config = RunConfig(network, init=init or None, **JUDGED, **options)
    accuracy, figures = judged(config, budget, data)
    last = figures[len(every)]
    return {
        **{"layer": len(every), "below": " ".join(map(str, every[:-1]))},
        **{"every": every[-1] or "random", "accuracy": accuracy},
        **{name: f"{last[name]:.3f}" for name in ("norm_mean", "winner_entropy")},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    usual = {"images": 40_000, "validation": 10_000, "neuron_factor": 1.0}
    options = parser("few_ones", __doc__, OUT, **usual)
    options.add_argument("--layers", type=int, default=2, choices=(1, 2, 3), help="that are tried")
    asked = options.parse_args(arguments)
    budget, rows, below = Budget(asked.images, asked.validation), [], ()
    layers = get_preset(CIFAR_NET, neuron_factor=asked.neuron_factor).layers
    run = {"dataset": asked.dataset, "seed": asked.seed}
    for tried in TRIED[: asked.layers]:
        found = {}
        for every in (*tried, None):
            found[every] = trial(layers, (*below, every), budget, asked.data, **run)
            rows.append({**found[every], "images": asked.images, "seed": asked.seed})
            print(", ".join(f"{name} {rows[-1][name]}" for name in COLUMNS), flush=True)
        below = (*below, max(tried, key=lambda every: found[every]["accuracy"]))
    write_csv(asked.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
