"""Settings of the process in which a command computes."""

from __future__ import annotations

import torch

from softhebb_fast.cli.memory import keep_freed_memory


def settle() -> None:
    """Flush denormals, which softmax leaves behind and which are several times slower to multiply;
    keep freed memory."""
    torch.set_flush_denormal(True)
    keep_freed_memory()


def default_device() -> str:
    """Where a command computes that was not told it."""
    return "cuda" if torch.cuda.is_available() else "cpu"
