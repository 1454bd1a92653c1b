"""The process in which a command computes: its settings, and those that compute with it."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from softhebb_fast.cli.memory import keep_freed_memory


def settle() -> None:
    """Flush denormals, which softmax leaves behind and which are several times slower to multiply;
    keep freed memory."""
    torch.set_flush_denormal(True)
    keep_freed_memory()


def default_device() -> str:
    """Where a command computes that was not told it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def join(device: str) -> None:
    """Join the other processes of ``torchrun``, if there are some, to make a run on ``device``.

    On ``"cuda"`` each takes the GPU of its number. Raises ValueError for more of them than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or "RANK" not in os.environ:
        return
    if device != "cuda":
        dist.init_process_group("gloo")
        return
    number, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= gpus:
        raise ValueError(
            f"device must have a GPU for each process of this machine; got {gpus} for process "
            f"{number + 1}"
        )
    torch.cuda.set_device(number)
    dist.init_process_group("cpu:gloo,cuda:nccl")


def leave() -> None:
    """Leave the other processes again."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def restarted() -> bool:
    """Whether ``torchrun`` has started this process again, after one had ended early."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
