"""Programs that wait for each other, by counters that are 0 when a launch begins.

A program may wait for any that comes before it. For one that comes after it, it may wait where all
between them can run at a time: then that one has begun or begins when one before both ends.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

POLLS = tl.constexpr(1 << 26)


@triton.jit
def begin(OVERLAPS: tl.constexpr):
    """What a kernel does first. With OVERLAPS its programs may be there before the launch ahead of
    it has ended: they wait for what that stores, and let those of the next launch come.

    Every kernel does so, so that the end of one launch is that of all before it.
    """
    if OVERLAPS:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def arrive(counter):
    """Whoever awaits the counter sees what this program has stored."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release")


@triton.jit
def wait(counter, N):
    """Until N programs have arrived; after so many polls, most of a minute, the launch fails."""
    polls = 0
    while (tl.atomic_add(counter, 0, sem="acquire") < N) & (polls < POLLS):
        polls += 1
    tl.device_assert(
        polls < POLLS,
        "programs that wait for each other did not run concurrently: SOFTHEBB_FAST_WAIT=0 does "
        "without them",
    )
    tl.debug_barrier()


@triton.jit
def is_last(counter, N):
    """Whether N programs have arrived with this one, which sees what they stored."""
    tl.debug_barrier()
    return tl.atomic_add(counter, 1, sem="acq_rel") == N - 1
