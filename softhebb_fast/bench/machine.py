"""Which machine, versions and commit a result comes from, and whether the machine is quiet."""

from __future__ import annotations

import datetime
import os
import platform
from functools import cache
from pathlib import Path

import torch

from softhebb_fast import __version__
from softhebb_fast.training import provenance


def commit() -> str:
    """The commit of the checkout, or the version where there is none."""
    return provenance.commit() or f"v{__version__}"


def versions() -> str:
    return f"Python {platform.python_version()}, torch {torch.__version__}"


@cache
def machine(device: str) -> str:
    """The CPU or GPU, and what torch makes of it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        name = next((s.split(": ")[1] for s in lines if s.startswith("model name")), name)
    return f"{name}, {cores()} cores, {torch.backends.cpu.get_cpu_capability()}"


def facts(device: str) -> dict[str, str]:
    """What a result was made with, by column."""
    return {
        "commit": commit(),
        "timestamp": now(),
        "versions": versions(),
        "machine": machine(device),
    }


def cores() -> int:
    """Those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def busy() -> float | None:
    """Processes that ran in the last minute, on average; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
