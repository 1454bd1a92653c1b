"""What the kernels of one learning step execute and move on an H100, counted in a PTX emulator.

    python -m benchmarks.gpu.counters     # recompute counters.csv, some fifteen minutes

``counted`` names the programs that were emulated; their counts are scaled to the whole grid.
``library_us`` is NVIDIA's own estimate (nvidia-matmul-heuristics) of a library product of that
shape and precision: of one_pass, which makes two products, the first alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from benchmarks.gpu.counting import COUNTS, UNITS, count
from benchmarks.gpu.layers import LAYERS, PRECISIONS, call
from benchmarks.gpu.offline import record
from benchmarks.gpu.tables import read
from benchmarks.gpu.traffic import hbm_bytes
from softhebb_fast.files import write_csv

TABLE = Path(__file__).with_name("counters.csv")
LIBRARY = Path(__file__).parents[1] / "results" / "gpu_library.csv"
PRODUCTS = {"one_pass": "forward_us", "forward": "forward_us", "plasticity": "plasticity_us"}
KEY = ("layer", "precision", "kernel")
FIELDS = (
    *KEY,
    *("tile", "counted", "floor_us", "library_us"),
    *(f"{unit}_us" for unit in UNITS),
    *("smem_ratio", *COUNTS),
)


def library() -> dict[tuple[str, str], dict[str, str]]:
    """The estimates of a layer, by its name and precision."""
    return {(row["layer"], row["precision"]): row for row in read(LIBRARY)}


def rows() -> Iterator[dict]:
    estimates = library()
    for layer, precision in product(LAYERS, PRECISIONS):
        launches = record(call(layer, precision), "sm_90a")
        for launch, moved in zip(launches, hbm_bytes(launches), strict=True):
            # programs of activity are of two kinds, all others are alike
            found = count(launch, moved, programs=8 if launch.name == "activity" else 1)
            estimate = estimates[layer, precision].get(PRODUCTS.get(launch.name, ""), "")
            yield {"layer": layer, "precision": precision, "library_us": estimate} | found


def main() -> int:
    write_csv(TABLE, FIELDS, rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
