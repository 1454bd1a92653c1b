"""The whole job on a GPU: CIFAR-10's images to the test accuracy, by the published protocol.

    python -m benchmarks.gpu.run --data FOLDER --csv run.csv

Each run is a process of the command ``train``; the first compiles its kernels, the others find them
in Triton's cache. ``process_s`` is from the start of the process to its end, ``training_s`` from
the first batch to the last, without reading the images, and the phases are its parts.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from softhebb_fast.bench import machine
from softhebb_fast.files import write_csv

PRESET = "4SoftHebbCnnCIFAR"
FIELDS = (
    "preset",
    "dataset",
    "precision",
    "seed",
    "kernels",
    "accuracy",
    "process_s",
    "training_s",
)
FIELDS += ("phases", "commit", "versions", "machine", "timestamp")


def command(options: argparse.Namespace, seed: int, out: Path) -> list[str]:
    dataset = ["--dataset", options.dataset, "--data", str(options.data)]
    how = ["--device", options.device, "--precision", options.precision, "--seed", str(seed)]
    rest = ["--out", str(out), "--no-plots", "--quiet", *options.more]
    return [sys.executable, "-m", "softhebb_fast", "train", options.preset, *dataset, *how, *rest]


def run(options: argparse.Namespace, seed: int, kernels: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        began = time.monotonic()
        done = subprocess.run(
            command(options, seed, out), capture_output=True, text=True, check=False
        )
        took = time.monotonic() - began
        print(done.stdout + done.stderr, flush=True)
        done.check_returncode()
        with open(out / "metrics.csv", newline="", encoding="utf-8") as file:
            figures = list(csv.DictReader(file))
    return {
        "preset": options.preset,
        "dataset": options.dataset,
        "precision": options.precision,
        "seed": seed,
        "kernels": kernels,
        "accuracy": next(r["test_accuracy"] for r in reversed(figures) if r["test_accuracy"]),
        "process_s": f"{took:.2f}",
        "training_s": f"{float(figures[-1]['seconds']):.2f}",
        "phases": phases(figures),
        **machine.facts(options.device),
    }


def phases(figures: list[dict[str, str]]) -> str:
    """When each phase first and last wrote a figure, in seconds of training."""
    spans: dict[str, list[float]] = {}
    for row in figures:
        name = f"{row['phase']} {row.get('layer', '')}".strip()
        spans.setdefault(name, []).append(float(row["seconds"]))
    return "; ".join(f"{name} {min(s):.2f} to {max(s):.2f}" for name, s in spans.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default=PRESET)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("more", nargs="*", help="options of the command train, after --")
    options = parser.parse_args()
    found = []
    for seed in range(options.seeds):
        found.append(run(options, seed, "warm" if found else "as they were"))
        print(found[-1], flush=True)
        if options.csv:
            write_csv(options.csv, FIELDS, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
