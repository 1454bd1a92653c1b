"""How products of float32 matrices are taken: one setting of the whole process.

It lives in the environment variable ``SOFTHEBB_FAST_PRECISION``, which the kernels read at every
call. Unset, torch's own settings decide: on the CPU ``torch.set_float32_matmul_precision``; on CUDA
a layer's products are taken as those of ``F.conv2d`` or ``F.linear`` (``of_torch``). The reference
follows torch's settings alone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from softhebb_fast import extension

VARIABLE = "SOFTHEBB_FAST_PRECISION"
PRECISIONS = ("ieee", "bf16x3", "bf16x6", "tf32", "tf32x3")

_TORCH_DEFAULT: ContextVar[str] = ContextVar("torch_default", default="ieee")


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
    return extension.MISSING or extension.call.bf16x3_missing() or None


def require(precision: str, device_type: str) -> None:
    """Raise RuntimeError with the reason where float32 products cannot be taken so."""
    if reason := why_not(precision, device_type):
        raise RuntimeError(
            f"precision={precision!r} cannot be had on device {device_type!r}: {reason}. "
            "Use precision='ieee'."
        )


@contextmanager
def use(precision: str) -> Iterator[None]:
    """Take float32 products so, in all threads, until the context ends.

    ``"ieee"`` is float32; ``"bf16x3"`` takes three products of bfloat16 matrices on CPUs that have
    AMX; ``"bf16x6"``, ``"tf32"`` and ``"tf32x3"`` are for CUDA. Layers whose backend cannot raise
    RuntimeError or ValueError with the reason. Raises ValueError for an unknown precision.
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


def of_torch(layer: str) -> str:
    """How torch takes a ``"conv2d"``'s or a ``"linear"``'s float32 products on CUDA: ``"ieee"`` or
    ``"tf32"``.

    ``torch.backends.cudnn.conv.fp32_precision`` says it of convolutions, by default ``"tf32"``, and
    ``torch.backends.cuda.matmul.fp32_precision`` of linear layers; on ROCm the latter of both.
    """
    # The one API that can be read whichever of torch's two was written, and that knows what a
    # setting inherits from torch.backends.cudnn and torch.backends.
    convolves = layer == "conv2d" and torch.version.hip is None
    asked = torch.backends.cudnn.conv if convolves else torch.backends.cuda.matmul
    return "tf32" if asked.fp32_precision == "tf32" else "ieee"


def as_torch(layer: str) -> Callable[[Callable], Callable]:
    """Decorate a function of ``x`` and more: inside, ``torch_default`` is what ``of_torch`` says of
    the layer if x is on CUDA."""

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(x: Tensor, *args, **options):
            token = _TORCH_DEFAULT.set(of_torch(layer) if x.device.type == "cuda" else "ieee")
            try:
                return function(x, *args, **options)
            finally:
                _TORCH_DEFAULT.reset(token)

        return call

    return decorate


def torch_default() -> str:
    """How the Triton kernels take float32 products where the environment does not say it."""
    return _TORCH_DEFAULT.get()


def _check(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
