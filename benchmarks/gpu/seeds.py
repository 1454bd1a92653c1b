"""Eight seeds of the CIFAR-10 run at once, beside one alone, on a GPU.

    python -m benchmarks.gpu.seeds --data FOLDER --csv seeds.csv

Both are made twice in this process, first on few images, which compiles their kernels. ``alone_s``
and ``together_s`` are from the begin of the first run to the end of the last, images and features
included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from softhebb_fast.bench import machine
from softhebb_fast.files import write_csv
from softhebb_fast.training import RunConfig, Trainer, learn_together

FEW = {"limit": 500, "probe_epochs": 1}
FIELDS = ("preset", "dataset", "precision", "seeds", "accuracy", "alone_s", "together_s", "ratio")
FIELDS += ("commit", "versions", "machine", "timestamp")


def made(options: argparse.Namespace, seeds: range, **changes: Any) -> tuple[float, float]:
    """The seconds that the runs of ``seeds`` take, and their mean test accuracy in per cent."""
    changes |= {"device": options.device, "precision": options.precision}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            Trainer(
                RunConfig(options.preset, options.dataset, seed=seed, **changes),
                Path(folder, str(seed)),
                root=options.data,
            )
            for seed in seeds
        ]
        if len(runs) > 1:
            learn_together(runs)
        found = [run.run()["test_accuracy"] for run in runs]
    return time.monotonic() - began, mean(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="4SoftHebbCnnCIFAR")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--few", action="store_true", help="few images: a rehearsal")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    for changes in (FEW,) if options.few else (FEW, {}):
        alone, _ = made(options, range(1), **changes)
        together, accuracy = made(options, range(options.seeds), **changes)
    row = {
        "preset": options.preset,
        "dataset": options.dataset,
        "precision": options.precision,
        "seeds": options.seeds,
        "accuracy": f"{accuracy:.2f}",
        "alone_s": f"{alone:.2f}",
        "together_s": f"{together:.2f}",
        "ratio": f"{together / alone:.2f}",
        **machine.facts(options.device),
    }
    print(row, flush=True)
    if options.csv:
        write_csv(options.csv, FIELDS, [row])
    return 0


if __name__ == "__main__":
    sys.exit(main())
