"""Sums over processes that hold the parts of one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

if dist.is_available():
    # Torch's optimizers import it later, and its defaults then hold the group that is there for
    # ever: threads of gloo outlive the interpreter, which may abort the process.
    import torch.distributed.nn.functional

Total = Callable[[Tensor], Tensor]


class ProcessLost(RuntimeError):
    """Another process of the group has ended or cannot be reached."""


class Processes:
    """The processes that a layer's updates are summed over; false for none but its own.

    A copy of the layer keeps them. A pickled one forgets them, as they end with the program.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group

    def __bool__(self) -> bool:
        return self.group is not None

    def __deepcopy__(self, memo: dict[int, Any]) -> Processes:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def check_group(group: dist.ProcessGroup) -> None:
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            "process_group must be a torch.distributed.ProcessGroup that holds this process; got "
            f"{group!r}"
        )


@contextmanager
def reaching_all() -> Iterator[None]:
    """What torch.distributed raises here comes of the other processes: a ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        raise ProcessLost(f"another process of the group is lost ({first})") from error


def over(group: dist.ProcessGroup) -> Total:
    """The sum over the processes of ``group``, with the same bits in each.

    It raises ProcessLost where one of them has ended.
    """
    check_group(group)

    def total(part: Tensor) -> Tensor:
        part = part.contiguous()
        with reaching_all():
            dist.all_reduce(part, group=group)
        return part

    return total


def together(total: Total, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sums of tensors of one device and dtype, in one message."""
    if len(tensors) == 1:
        return [total(tensors[0])]
    flat = total(torch.cat([t.flatten() for t in tensors]))
    sums = flat.split([t.numel() for t in tensors])
    return [s.view(t.shape) for s, t in zip(sums, tensors, strict=True)]


def spread(tensor: Tensor, group: dist.ProcessGroup, source: int = 0) -> None:
    """Give ``tensor``, which is contiguous, the bytes that it has in process ``source``."""
    if tensor.numel():
        with reaching_all():
            dist.broadcast(tensor.view(-1).view(torch.uint8), group=group, group_src=source)


@torch.no_grad()
def spread_all(tensors: Iterable[Tensor], group: dist.ProcessGroup) -> None:
    """Give every tensor the values that it has in the first process."""
    for tensor in tensors:
        whole = tensor.detach().contiguous()
        spread(whole, group)
        tensor.copy_(whole)
