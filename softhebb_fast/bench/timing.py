"""Seconds and bytes of calls, on the CPU and on CUDA devices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

SHORTEST = 0.05  # seconds of a sample: short calls are repeated within it
FLUSH_BYTES = 1 << 28  # more than the L2 of any GPU


def sample(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Seconds of one call, the mean of ``repeats``. On CUDA by events, L2 flushed before each."""
    if device.type == "cuda":
        return _cuda(call, repeats)
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def enough(seconds: float) -> int:
    """How many calls of that length make a sample."""
    return max(1, min(10_000, round(SHORTEST / max(seconds, 1e-6))))


class Memory:
    """The most memory that the process takes, beyond what it held when this was made.

    On the CPU the resident set of the process, on CUDA what torch's allocator hands out.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = torch.cuda.memory_allocated() if device.type == "cuda" else _status("VmRSS")

    def forget_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self.before = None  # the peak cannot be had here

    def peak(self) -> int | None:
        """Bytes since ``forget_peak``; None where the system does not tell."""
        if self.before is None:
            return None
        cuda = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated() if cuda else _status("VmHWM")
        return None if peak is None else peak - self.before


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def _cuda(call: Callable[[], object], repeats: int) -> float:
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    pairs = []
    for _ in range(repeats):
        flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return sum(begin.elapsed_time(end) for begin, end in pairs) / 1e3 / repeats
