"""Tilings of every kernel side by side on an H100: what each needs, and which one is taken.

    python -m benchmarks.gpu.tilings     # recompute tilings.csv, a minute

Of the CIFAR-10 net at batch 10, from one program a launch; ``taken`` is what
``softhebb_fast.kernels.configs`` chooses.

``filled`` is the part of the GPU's multiprocessors that have work, averaged over the waves of 132
programs, but for those that only scan x or scale it. A wave of programs that share their tiles
takes that part of a whole one. ``bound_us`` is the floor with that: work inside a multiprocessor
takes longer where some of them idle. Nothing is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.gpu.counting import MULTIPROCESSORS, TARGET, count
from benchmarks.gpu.layers import LAYERS, PRECISIONS, call
from benchmarks.gpu.offline import Launch, record, resources
from softhebb_fast.files import write_csv
from softhebb_fast.kernels import configs
from softhebb_fast.kernels.configs import Config

TABLE = Path(__file__).with_name("tilings.csv")
TILINGS = {
    ("one_pass", "tf32"): [(16, 128, 64, 8, 1), (32, 128, 64, 8, 1), (64, 128, 64, 8, 1)],
    ("one_pass", "bfloat16"): [(16, 128, 64, 8, 1), (32, 128, 64, 8, 1), (64, 128, 64, 8, 1)],
    ("forward", "tf32"): [(64, 128, 32, 4, 4), (128, 128, 32, 8, 3), (128, 256, 32, 8, 3)],
    ("forward", "bfloat16"): [(64, 128, 64, 4, 4), (128, 128, 64, 8, 4), (128, 256, 64, 8, 3)],
    ("plasticity", "tf32"): [(64, 128, 64, 4, 4), (64, 128, 128, 8, 3), (64, 128, 128, 4, 3)],
    ("plasticity", "bfloat16"): [(64, 128, 64, 4, 4), (64, 128, 128, 8, 3), (64, 128, 128, 4, 3)],
}
FIELDS = (
    *("layer", "precision", "kernel", "tile", "warps", "stages", "taken", "spills", "programs"),
    *("filled", "bound_us", "floor_us", "tensor_us", "l2_us", "issue_us", "smem_us", "smem_ratio"),
)


@contextmanager
def only(kernel: str, config: Config) -> Iterator[None]:
    """``kernel`` in this configuration, with as many neurons and patch elements as it says."""
    with configs.chosen({kernel: config}):
        yield


def rows() -> Iterator[dict[str, object]]:
    for layer in (name for name in LAYERS if name.endswith("@10")):
        for precision in PRECISIONS:
            work = call(layer, precision)
            for usual in record(work, TARGET):
                for tiling in TILINGS.get((usual.name, precision), ()):
                    config = Config(*tiling)
                    with only(usual.name, config):
                        launch = next(n for n in record(work, TARGET) if n.name == usual.name)
                    found = count(launch)
                    forward = launch.name == "forward"
                    programs = int(np.prod(launch.tiles if forward else launch.grid))
                    filled = filled_part(programs, launch)
                    inside = max(found[f"{u}_us"] for u in ("tensor", "issue", "lsu", "smem"))
                    yield {
                        "layer": layer,
                        "precision": precision,
                        **{name: found[name] for name in FIELDS if name in found},
                        "warps": config.warps,
                        "stages": config.stages,
                        "taken": "yes" if launch.config == usual.config else "",
                        "spills": resources(launch.compile(TARGET), TARGET)["spills"],
                        "programs": programs,
                        "filled": round(filled, 2),
                        "bound_us": round(inside / filled, 2),
                    }


def filled_part(programs: int, launch: Launch) -> float:
    """Of the multiprocessors, while ``launch`` runs."""
    whole, splits = launch.constants.get("WHOLE", 0), launch.constants.get("SPLITS", 1)
    if not whole:
        return programs / (-(-programs // MULTIPROCESSORS) * MULTIPROCESSORS)
    shared = (programs - whole) / splits  # tiles; all their programs run concurrently
    return (whole + shared) / MULTIPROCESSORS / (whole / MULTIPROCESSORS + 1 / splits)


def main() -> int:
    write_csv(TABLE, FIELDS, rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
