"""How few ones a start of zeros and ones should have, layer after layer, by held-out images.

    python -m benchmarks.features.few_ones --data data     # into results/few_ones.csv

The published CIFAR-10 network is built up from below. Every layer is tried with `residue_binary` of
several shares of ones, and with random filters beside them, above the best of those that came
before. A trial learns from some training images, and ridge regression on its last layer, pooled to
4x4, is judged by others. The test images take no part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softhebb_fast.experiments.definitions.nets import CIFAR_NET, written
from softhebb_fast.files import write_csv
from softhebb_fast.presets import get_preset
from softhebb_fast.search.trial import Budget, HeldOut
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
    every: Sequence[int | None], budget: Budget, data: str | None, **options: Any
) -> dict[str, Any]:
    """What becomes of the lowest layers of which one entry of so many is a one; None for random
    filters."""
    *layers, head = get_preset(CIFAR_NET, neuron_factor=options.pop("neuron_factor", 1.0)).layers
    init = {i: {"name": "residue_binary", "every": n} for i, n in enumerate(every) if n}
    network = written(*layers[: len(every)], head)
    config = RunConfig(network, init=init or None, **JUDGED, **options)
    with tempfile.TemporaryDirectory(prefix="softhebb-trial-") as folder:
        run = HeldOut(budget, config, folder, root=data)
        accuracy = run.run()["test_accuracy"]
    last = [row for row in run.rows if row.get("layer") == len(every)][-1]
    return {
        **{"layer": len(every), "below": " ".join(map(str, every[:-1]))},
        **{"every": every[-1] or "random", "accuracy": round(accuracy, 2)},
        **{name: f"{last[name]:.3f}" for name in ("norm_mean", "winner_entropy")},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features.few_ones",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data", default=None, help="folder of the data sets")
    parser.add_argument("--layers", type=int, default=2, choices=(1, 2, 3), help="that are tried")
    parser.add_argument("--images", type=int, default=40_000, help="that are learned from")
    parser.add_argument("--validation", type=int, default=10_000, help="others, which judge")
    parser.add_argument("--neuron-factor", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    budget, rows, below = Budget(asked.images, asked.validation), [], ()
    options = {name: getattr(asked, name) for name in ("dataset", "seed", "neuron_factor")}
    for tried in TRIED[: asked.layers]:
        found = {}
        for every in (*tried, None):
            found[every] = trial((*below, every), budget, asked.data, **options)
            rows.append({**found[every], "images": asked.images, "seed": asked.seed})
            print(", ".join(f"{name} {rows[-1][name]}" for name in COLUMNS), flush=True)
        below = (*below, max(tried, key=lambda every: found[every]["accuracy"]))
    write_csv(asked.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
