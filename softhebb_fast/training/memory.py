"""How much memory can still be had, and what to say where it is not enough."""

from __future__ import annotations

from pathlib import Path

import torch

GIB = 2**30
GROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device | str = "cpu") -> int | None:
    """Memory that can still be had on ``device``; None where the system does not tell.

    On the CPU of a control group no more than its limit leaves.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    if device.type != "cpu" or not info.exists():
        return None
    lines = info.read_text().splitlines()
    free = next(int(s.split()[1]) << 10 for s in lines if s.startswith("MemAvailable"))
    left = _left_of_group(GROUP)
    return free if left is None else min(free, left)


def require(bytes_needed: int, device: torch.device | str, what: str, remedy: str) -> None:
    """Raise ValueError, with both figures and ``remedy``, if ``what`` needs more than is free."""
    free = free_bytes(device)
    if free is not None and bytes_needed > free:
        raise ValueError(
            f"{what} would take {bytes_needed / GIB:.1f} GiB, more than the {free / GIB:.1f} GiB "
            f"that are free on {device}: {remedy}"
        )


def _left_of_group(group: Path) -> int | None:
    limit, used, stat = (group / f"memory.{name}" for name in ("max", "current", "stat"))
    if not all(path.exists() for path in (limit, used, stat)):
        return None
    most = limit.read_text().strip()
    if most == "max":
        return None
    kept = (line.split() for line in stat.read_text().splitlines())
    files = sum(int(n) for name, n in kept if name == "inactive_file")  # given back when asked
    return int(most) - int(used.read_text()) + files
