"""The process in which a command computes: its settings, and those that compute with it."""

from __future__ import annotations

import atexit
import gc
import os
from typing import Any

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
    atexit.register(leave)
    if device != "cuda":
        dist.init_process_group("gloo", **_met())
        return
    number, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= gpus:
        raise ValueError(
            f"device must have a GPU for each process of this machine; got {gpus} for process "
            f"{number + 1}"
        )
    torch.cuda.set_device(number)
    dist.init_process_group("cpu:gloo,cuda:nccl", **_met())


def _met() -> dict[str, Any]:
    """Where the processes of this start meet, if there was one before on this machine.

    ``torchrun`` keeps its store when it starts processes again, and with it the addresses of those
    that are gone: two that find them wait for each other (pytorch#135712).
    """
    everywhere, here = os.environ["WORLD_SIZE"], os.environ.get("LOCAL_WORLD_SIZE")
    if not restarted() or here != everywhere:
        return {}
    from torch.distributed.rendezvous import rendezvous  # which some builds of torch lack

    store, rank, size = next(rendezvous("env://"))
    start = f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}"
    return {"store": dist.PrefixStore(start, store), "rank": rank, "world_size": size}


def leave() -> None:
    """Leave the other processes again.

    The threads that reach them end with the last reference to the group. One that outlives the
    interpreter aborts the process when it frees a tensor.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # runs, which refer to the group and to themselves


def restarted() -> bool:
    """Whether ``torchrun`` has started this process again, after one had ended early."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
