"""How products of float32 matrices are taken: one setting of the whole process.

It lives in the environment variable ``SOFTHEBB_FAST_PRECISION``, which the kernels read at every
call. Unset, torch's own settings decide (``torch.set_float32_matmul_precision``). The reference
follows torch's settings alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from softhebb_fast import ops

VARIABLE = "SOFTHEBB_FAST_PRECISION"
PRECISIONS = ("ieee", "bf16x3", "tf32", "tf32x3")


def why_not(precision: str, device_type: str) -> str | None:
    """The reason why float32 products cannot be taken so on ``"cpu"`` or ``"cuda"``, or None.

    Raises ValueError for an unknown precision.
    """
    _check(precision)
    if precision == "ieee":
        return None
    if precision != "bf16x3":
        return None if device_type == "cuda" else "it is for CUDA tensors"
    if device_type != "cpu":
        return "it is for CPU tensors"
    return ops.MISSING or ops.call.bf16x3_missing() or None


@contextmanager
def use(precision: str) -> Iterator[None]:
    """Take float32 products so, in all threads, until the context ends.

    ``"ieee"`` is float32; ``"bf16x3"`` takes three products of bfloat16 matrices on CPUs that have
    AMX; ``"tf32"`` and ``"tf32x3"`` are for CUDA. Layers whose backend cannot raise RuntimeError or
    ValueError with the reason. Raises ValueError for an unknown precision.
    """
    _check(precision)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = precision
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _check(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
