"""Tests that wait for a CUDA device. ``make gpu`` runs them there.

``SOFTHEBB_FAST_REHEARSAL=cpu`` runs on the CPU's kernels what does not need CUDA itself, so that
the tests can be tried before their day.
"""

from __future__ import annotations

import os

import pytest
import torch

REHEARSAL = os.environ.get("SOFTHEBB_FAST_REHEARSAL") == "cpu" and not torch.cuda.is_available()
DEVICE = torch.device("cpu" if REHEARSAL else "cuda")
REASON = "waits for a CUDA device"
MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (torch.cuda.is_available() or REHEARSAL), reason=REASON),
]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason=REASON)

# dtype, and what SOFTHEBB_FAST_PRECISION says; float32 products of tf32 take operands of 11 bits
PRECISIONS = {
    "ieee": (torch.float32, "ieee"),
    "bf16x6": (torch.float32, "bf16x6"),
    "tf32x3": (torch.float32, "tf32x3"),
    "tf32": (torch.float32, "tf32"),
    "float16": (torch.float16, "ieee"),
    "bfloat16": (torch.bfloat16, "ieee"),
}


def on_device(tensors: tuple) -> list[torch.Tensor | None]:
    """Copies on the device, laid out as they are."""
    return [None if t is None else t.clone().to(DEVICE) for t in tensors]
