"""Sums over processes that hold the parts of one batch."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor

from softhebb_fast.reference import Total


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


def over(group: dist.ProcessGroup) -> Total:
    """The sum over the processes of ``group``, with the same bits in each."""
    check_group(group)

    def total(part: Tensor) -> Tensor:
        part = part.contiguous()
        dist.all_reduce(part, group=group)
        return part

    return total
