"""Sums over processes that hold the parts of one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor

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

    def __reduce__(self) -> tuple:
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
