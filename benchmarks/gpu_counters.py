"""What one learning step of a layer moves and executes on an H100, counted in a PTX emulator.

    python -m benchmarks.gpu_counters            # recompute gpu_counters.csv, some ten minutes

Floors are computed from counts, not measured: the time that the counted work takes at the full
rate of one unit of the GPU. The largest of them bounds the kernel's time from below. ``library``
is NVIDIA's own estimate (nvidia-matmul-heuristics) of a library product of the same shape.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu_budget import LAYERS, step
from benchmarks.offline import Launch, launches_go_to, record
from softhebb_fast import kernels
from tests.triton.conftest import load_emulator

TABLE = Path(__file__).with_name("gpu_counters.csv")
TARGET = "sm_90a"
L2_BYTES = 50e6
LIBRARY = {
    ("cifar10-1", "tf32"): 15.0,
    ("cifar10-1", "bfloat16"): 12.9,
    ("cifar10-2", "tf32"): 18.8,
    ("cifar10-2", "bfloat16"): 14.5,
    ("cifar10-3", "tf32"): 30.8,
    ("cifar10-3", "bfloat16"): 20.4,
}
UNITS = ("tensor", "l2", "issue", "lsu", "smem")
KEY = ("layer", "precision", "kernel", "programs", "tile")
COUNTS = ("load_sectors", "store_sectors", "warp_instructions", "macs")
TIMES = ("floor_us", "library_us", *(f"{unit}_us" for unit in UNITS), "smem_ratio")
FIELDS = KEY + TIMES + COUNTS


def counted(layer: str, precision: str) -> Iterator[dict[str, object]]:
    """One row a launch. Values are those of a random layer; they have no effect on the counts."""
    emulator, found = load_emulator(), []

    def emulate(launch: Launch) -> None:
        args = launch.source()[1]
        report = emulator.run(launch.compile(TARGET), launch.grid, args, stats=True, race=False)
        found.append((launch, report))

    call = step(layer, precision)
    torch.manual_seed(0)
    x, w = (torch.randn_like(t, device="cpu") for t in call.args[:2])
    with launches_go_to(emulate, TARGET):
        kernels.conv2d_step_(x, w / w[0].numel() ** 0.5, None, **call.keywords)
    kind = "f16" if precision == "bfloat16" else "tf32"
    for launch, report in found:
        floors = emulator.bounds(report, 0, kind, "H100")
        wavefronts, ideal = (
            sum(report.get(f"shared_{way}_{what}", 0) for way in ("ld", "st"))
            for what in ("wavefronts", "ideal")
        )
        main = launch.name in ("forward", "plasticity", "one_pass")
        tile = [launch.constants[k] for k in ("BM", "BN", "BP") if k in launch.constants]
        yield {
            "layer": layer,
            "precision": precision,
            "kernel": launch.name,
            "programs": torch.Size(launch.grid).numel(),
            "tile": "x".join(map(str, tile)),
            "floor_us": floors["floor"],
            "library_us": LIBRARY.get((layer, precision), "") if main else "",
            **{f"{unit}_us": floors[unit] for unit in UNITS},
            "smem_ratio": round(wavefronts / ideal, 3) if ideal else "",
            "load_sectors": report.get("global_ld_sectors", 0),
            "store_sectors": report.get("global_st_sectors", 0),
            "warp_instructions": report["warp_inst"],
            "macs": report.get("mma_macs", 0),
        }


def traffic(layer: str, precision: str, batch: int) -> tuple[int, int, float, float]:
    """Launches, the least bytes (x, u, W, yx once), and what the kernels move over that.

    Two ratios: every tensor once a launch, and what of that misses an L2 of 50 MB (a step whose
    tensors fit together reads and writes each of them once).
    """
    found = record(step(layer, precision, batch), TARGET)
    moved, tensors = 0, {}
    for launch in found:
        for arg in launch.args:
            if isinstance(arg, torch.Tensor):
                moved += arg.nbytes
                tensors[id(arg)] = arg.nbytes
    x, w, *_ = found[0].args
    u = next(a for a in found[0].args[2:] if isinstance(a, torch.Tensor) and a.dim() == 4)
    least = x.nbytes + u.nbytes + w.nbytes + 4 * w.numel()
    cached = sum(tensors.values())
    return len(found), least, moved / least, (cached if cached <= L2_BYTES else moved) / least


def main() -> int:
    rows = [r for layer, precision in LIBRARY for r in counted(layer, precision)]
    part = TABLE.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(TABLE)
    for layer in LAYERS:
        for batch in (10, 100):
            print(layer, batch, *traffic(layer, "tf32", batch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
