"""The processes that make a run together, each on its part of every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from softhebb_fast.functional.distributed import over, reaching_all, spread, spread_all, together

Found = TypeVar("Found")


class FirstFailed(RuntimeError):
    """The first process of a run has failed, and says why itself."""


class Drifted(RuntimeError):
    """The processes of a run have come to different weights."""


class Ranks:
    """The processes of a group, all of which must make the same calls in the same order.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
    """

    rank: int
    size: int

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank, self.size = (0, 1) if group is None else (group.rank(), group.size())

    @classmethod
    def here(cls) -> Ranks:
        """All processes of ``torch.distributed``, or this one where it is not initialised."""
        if not (dist.is_available() and dist.is_initialized()):
            return ALONE
        return cls(dist.group.WORLD) if dist.get_world_size() > 1 else ALONE

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.size > 1

    def part(self, samples: int) -> slice:
        """What of a batch of so many ``samples`` is this process's."""
        return slice(samples * self.rank // self.size, samples * (self.rank + 1) // self.size)

    def turns(self, count: int) -> range:
        """Which of so many chunks are this process's."""
        return range(self.rank, count, self.size)

    def total(self, own: Tensor) -> Tensor:
        """The sum over the processes, in the place of ``own`` where that is contiguous."""
        return over(self.group)(own) if self.several else own

    def add_(self, tensors: Iterable[Tensor]) -> None:
        """Add tensors of one device up over the processes in place, in one message of float32 or,
        if the first is float64, of float64."""
        tensors = list(tensors)
        dtype = torch.float64 if tensors[0].dtype == torch.float64 else torch.float32
        sums = together(self.total, [t.to(dtype) for t in tensors])
        for t, found in zip(tensors, sums, strict=True):
            t.copy_(found)

    def spread(self, tensor: Tensor, source: int = 0) -> None:
        """Give ``tensor``, which is contiguous, the bytes that it has in process ``source``."""
        if self.several:
            spread(tensor, self.group, source)

    def agree(self, *wishes: bool) -> list[bool]:
        """For each wish, whether any process has it."""
        return (self.total(self._message(wishes)) > 0).tolist()

    def told(self, value: Found) -> Found:
        """The ``value`` that the first process has."""
        held = [value]
        if self.several:
            with reaching_all():
                dist.broadcast_object_list(held, group=self.group, group_src=0)
        return held[0]

    def by_first(self, work: Callable[[], Found]) -> Found | None:
        """Let the first process do ``work`` while the others wait.

        What it raises is raised there, and in the others FirstFailed. They get None.
        """
        if not self.several:
            return work()
        found, problem = None, None
        if self.first:
            try:
                found = work()
            except Exception as error:
                problem = error
        [failed] = self.agree(problem is not None)
        if problem is not None:
            raise problem
        if failed:
            raise FirstFailed("the first process of the run has failed, and says why")
        return found

    def one_by_one(self, work: Callable[[], Found]) -> Found:
        """``work`` of all processes, the first before the others."""
        found = self.by_first(work)
        return found if self.first else work()

    def spread_state(self, model: nn.Module) -> None:
        """Give ``model`` the parameters and buffers that it has in the first process."""
        if self.several:
            spread_all(model.state_dict().values(), self.group)

    def check_same(self, model: nn.Module) -> None:
        """Raise Drifted in all processes if ``model`` is not the same in all, bit by bit."""
        if not self.several:
            return
        own = torch.stack([_sum_of_bits(t) for t in model.state_dict().values()])
        first = own.clone()
        self.spread(first)
        if any(self.agree(not torch.equal(own, first))):
            raise Drifted(
                "the processes of this run have come to different weights. They must compute with "
                "the same bits: on machines of one kind, with the same versions"
            )

    def _message(self, numbers: Iterable[float]) -> Tensor:
        gpu = dist.is_initialized() and dist.get_backend(self.group) == "nccl"
        return torch.tensor([float(n) for n in numbers], device="cuda" if gpu else "cpu")


ALONE = Ranks()


def _sum_of_bits(tensor: Tensor) -> Tensor:
    whole = tensor.detach().contiguous().view(-1)
    numbers = {1: torch.uint8, 2: torch.int16}.get(whole.element_size(), torch.int32)
    return whole.view(numbers).sum(dtype=torch.int64)
