"""The options that trials of features have in common."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser(name: str, text: str, out: Path, **usual: float | str) -> argparse.ArgumentParser:
    """That of ``python -m benchmarks.features.NAME``: ``usual`` are the defaults of ``images``,
    ``validation`` and ``neuron_factor``, and of others."""
    found = argparse.ArgumentParser(
        prog=f"python -m benchmarks.features.{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--dataset", default="cifar10")
    found.add_argument("--data", default=None, help="folder of the data sets")
    found.add_argument("--images", type=int, help="that are learned from")
    found.add_argument("--validation", type=int, help="others, which judge")
    found.add_argument("--neuron-factor", type=float)
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--out", type=Path, default=out)
    found.set_defaults(**usual)
    return found
