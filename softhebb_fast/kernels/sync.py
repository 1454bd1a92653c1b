"""Programs that wait for each other, by counters that are 0 when a launch begins.

A program may wait for any that comes before it. For one that comes after it, it may wait where all
between them can run at a time: then that one has begun or begins when one before both ends.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def arrive(counter):
    """Whoever awaits the counter sees what this program has stored."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release")


@triton.jit
def wait(counter, N):
    """Until N programs have arrived."""
    while tl.atomic_add(counter, 0, sem="acquire") < N:
        pass
    tl.debug_barrier()


@triton.jit
def is_last(counter, N):
    """Whether N programs have arrived with this one, which sees what they stored."""
    tl.debug_barrier()
    return tl.atomic_add(counter, 1, sem="acq_rel") == N - 1


@triton.jit
def clear(counters, N: tl.constexpr):
    o = tl.arange(0, triton.next_power_of_2(N))
    tl.store(counters + o, tl.zeros(o.shape, tl.int32), mask=o < N)
