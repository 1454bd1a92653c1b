"""The classifiers of several runs in the same launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from torch import Tensor

from softhebb_fast.nn import Dropout
from softhebb_fast.training.fused_classifier import ClassifierStage

if TYPE_CHECKING:
    from softhebb_fast.kernels.classifier import State


class JoinedClassifierStage(ClassifierStage):
    """The classifiers of several runs as one: each has its own features, order, masks and weights.

    Args:
        begin: begin the stage of each run, in turn. Its features are moved beside those of the
            others before the next is begun, and its state becomes a part of this one's: what is
            asked of it is what the joint steps have made of it.
    """

    members: list[ClassifierStage]
    kernels: ModuleType
    lr: float
    dropout: Dropout
    x: Tensor
    test_x: Tensor
    labels: Tensor
    halvings: list[int]
    state: State

    def __init__(self, begin: Iterable[Callable[[], ClassifierStage]]) -> None:
        begin, self.members = list(begin), []
        for i, make in enumerate(begin):
            member = make()
            if not self.members:
                self.x, self.test_x = (
                    x.new_empty(len(begin), *x.shape[1:]) for x in (member.x, member.test_x)
                )
            member.move(self.x[i : i + 1], self.test_x[i : i + 1])
            self.members.append(member)
        first = self.members[0]
        for name in ("net", "inputs", "samples", "epochs", "batch_size", "per_epoch", "marks"):
            setattr(self, name, getattr(first, name))
        self.kernels, self.labels, self.dropout = first.kernels, first.labels, first.dropout
        self.lr, self.halvings = first.lr, first.halvings
        self.state = self.kernels.joined([member.state for member in self.members])
        for i, member in enumerate(self.members):
            member.state = self.kernels.member(self.state, i)

    @property
    def title(self) -> str:
        return f"{self.members[0].title} of {len(self.members)} runs"
