"""How this process keeps memory: what glibc gives back, the next step has to fault in again."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_FROM_HEAP = 32 << 20  # the most that mallopt takes
KEPT = (1 << 31) - 1


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let this process keep freed memory, up to 2 GiB, for tensors of up to 32 MiB.

    A training step frees and asks for the same tensors again and again. By default glibc returns
    them to the system in between, and the next step waits for the pages to be mapped and cleared.

    Returns whether it was done: not without glibc, and not where the user has set a threshold by
    ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_``.
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(environment)
    if sys.platform != "linux" or chosen:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = ((M_MMAP_THRESHOLD, LARGEST_FROM_HEAP), (M_TRIM_THRESHOLD, KEPT))
    return all([mallopt(*option) == 1 for option in options])
