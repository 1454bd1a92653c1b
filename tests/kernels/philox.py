"""Philox-4x32 of 10 rounds (Salmon et al. 2011, section 4.3), by NumPy."""

from __future__ import annotations

import numpy as np

ROUND, KEY = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
WORD = np.uint64(0xFFFFFFFF)


def philox(counters: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Four words of every counter of four words."""
    a, b, c, d = (np.asarray(word, np.uint64) & WORD for word in counters)
    low, high = key
    for _ in range(10):
        first, second = a * np.uint64(ROUND[0]), c * np.uint64(ROUND[1])
        a, b = (second >> np.uint64(32)) ^ b ^ np.uint64(low), second & WORD
        c, d = (first >> np.uint64(32)) ^ d ^ np.uint64(high), first & WORD
        low, high = (low + KEY[0]) & 0xFFFFFFFF, (high + KEY[1]) & 0xFFFFFFFF
    return [a, b, c, d]
