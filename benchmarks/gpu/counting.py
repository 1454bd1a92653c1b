"""Count what a launch executes and moves on an H100, in a PTX emulator, from some of its programs.

Nothing is measured: the floors are the times that the counted work takes at the full rate of one
unit of the GPU. The largest of them bounds the kernel's time from below; but not that of the L2, to
which less may go than is counted: programs side by side on a multiprocessor share its L1, and only
what one of them finds there again is known.
"""

from __future__ import annotations

from collections import deque
from types import ModuleType

import numpy as np
import torch

from benchmarks.gpu.offline import Launch
from tests.kernels.conftest import load_emulator
from tests.kernels.in_turn import LATER

TARGET = "sm_90a"
MULTIPROCESSORS = 132
UNITS = ("tensor", "hbm", "l2", "issue", "lsu", "smem")
BOUNDING = tuple(unit for unit in UNITS if unit != "l2")
WINDOW = 64  # loads through L1 whose sectors a program finds there again
COUNTS = ("l2_sectors", "store_sectors", "warp_instructions", "macs")


def sampled(emulator: ModuleType) -> type:
    """The emulator's machine, which takes the middle program of a batch and models L1."""

    class Machine(emulator.Machine):
        def __init__(self, k, arena, ntid, smem, ctas, *rest):
            super().__init__(k, arena, ntid, smem, [ctas[len(ctas) // 2]], *rest)
            self.recent, self.through_l1 = deque(maxlen=WINDOW), False

        def step(self, op, mods, ops, mask, text):
            self.through_l1 = op == "ld" or "ca" in mods
            return super().step(op, mods, ops, mask, text)

        def stat_mem(self, space, kind, a, n, m):
            before = self.st["global_ld_sectors"]
            super().stat_mem(space, kind, a, n, m)
            if space == "global" and kind == "global_ld":
                missed = self.st["global_ld_sectors"] - before
                if self.through_l1:
                    sectors = np.unique((a if m is None else a[m]) >> 5)
                    known = np.concatenate(self.recent) if self.recent else sectors[:0]
                    missed = len(np.setdiff1d(sectors, known, assume_unique=False))
                    self.recent.append(sectors)
                self.st["l2_ld_sectors"] += missed

    return Machine


def kinds(
    launch: Launch,
) -> list[tuple[float, tuple[int, ...], tuple[torch.Tensor, int] | None]]:
    """Shares of the programs that are alike, a grid that has them in its middle, and the counter
    and count that make one such.

    What programs of forward wait for has come. Those of prepare look at x, or at filters. Of those
    that share a tile of plasticity one comes last and has more to do; one that has a tile alone
    does so too.
    """
    grid, split_counters = launch.grid, launch.named.get("split_counters")
    if launch.name == "forward":
        row_counters = launch.named["row_counters"]
        return [(1.0, grid, None if row_counters is None else (row_counters, LATER))]
    if launch.name == "prepare":
        looks = launch.constants["X_PROGRAMS"]
        found = [(looks, looks // 2), (grid[0] - looks, (looks + grid[0]) // 2)]
        return [(n / grid[0], (max(1, 2 * i),), None) for n, i in found if n]
    if launch.name == "plasticity" and split_counters is not None:
        whole, splits = launch.constants["WHOLE"], launch.constants["SPLITS"]
        first, last = (split_counters, 0), (split_counters, splits - 1)
        if not whole:
            return [(1 - 1 / splits, grid, first), (1 / splits, grid, last)]
        shared = grid[0] - whole
        share, ends = shared / grid[0], (2 * whole + shared, 1, 1)
        alone = whole / grid[0], (whole, 1, 1), first
        return [alone, (share * (1 - 1 / splits), ends, first), (share / splits, ends, last)]
    return [(1.0, grid, None)]


def count(launch: Launch, hbm_bytes: float = 0, programs: int = 1) -> dict:
    """Floors in us and counts of a launch, scaled from about ``programs`` of its programs.

    ``counted`` says from how many of how many. The values of the tensors do not matter to the
    counts: those of meta tensors are zeros.
    """
    emulator = load_emulator()
    emulator.Machine = sampled(emulator)
    tensors = [value for _, value in launch.given if isinstance(value, torch.Tensor)]
    real = {id(a): torch.zeros_like(a, device="cpu") for a in tensors}
    launch = launch.replaced(real)
    compiled, args = launch.compile(TARGET), launch.source()[1]
    total = int(np.prod(launch.grid))
    batch = -(-total // programs)
    done = -(-total // batch)
    found: dict[str, float] = {}
    for share, grid, counter in kinds(launch):
        if counter is not None:
            counter[0].fill_(counter[1])
        together = batch if grid == launch.grid else int(np.prod(grid))
        ran = emulator.run(compiled, grid, args, batch=together, stats=True, race=False)
        for name, value in ran.items():
            if isinstance(value, int):
                ran_of = done if grid == launch.grid else 1
                found[name] = found.get(name, 0) + value * share * total / ran_of
    l2 = {**found, "global_ld_sectors": found.get("l2_ld_sectors", 0)}
    # what is multiplied, where anything is
    narrow = tensors[0].element_size() == 2 or launch.constants.get("PRECISION") == "bf16x6"
    floors = emulator.bounds(l2, hbm_bytes, "f16" if narrow else "tf32", "H100")
    wavefronts, ideal = (
        sum(found.get(f"shared_{way}_{what}", 0) for way in ("ld", "st"))
        for what in ("wavefronts", "ideal")
    )
    return {
        "kernel": launch.name,
        "tile": launch.tile,
        "counted": f"{done} of {total}",
        "floor_us": max(floors[unit] for unit in BOUNDING),
        **{f"{unit}_us": floors[unit] for unit in UNITS},
        "smem_ratio": round(wavefronts / ideal, 3) if ideal else "",
        "l2_sectors": round(l2["global_ld_sectors"]),
        "store_sectors": round(found.get("global_st_sectors", 0)),
        "warp_instructions": round(found["warp_inst"]),
        "macs": round(found.get("mma_macs", 0)),
    }
