"""What the ordinary networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from softhebb_fast.nn import Dropout

Entry = TypeVar("Entry")


class Scalars(nn.Module):
    """A learned scale and bias, one number each, in the place of a normalisation.

    Source: after Fixup (Zhang, Dauphin, Ma 2019), as ZerO's networks without batch norm have them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale: nn.Parameter = nn.Parameter(torch.ones(1))
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias


class OpenReLU(nn.Module):
    """ReLU with the derivative 1 at 0, where ZerO's units start."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x >= 0).to(x.dtype)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "scalar": lambda channels: Scalars(),
    "none": lambda channels: nn.Identity(),
}


def choose(argument: str, table: dict[str, Entry], name: str) -> Entry:
    """The entry of that name. Raises ValueError, naming the argument, if there is none."""
    if name not in table:
        raise ValueError(f"{argument} must be one of {', '.join(table)}; got {name!r}")
    return table[name]


def scaled(channels: int, factor: float) -> int:
    """So many channels times ``factor``, one at least."""
    return max(1, round(channels * factor))


def groups(blocks: Sequence[int], width: int) -> Iterator[tuple[int, int]]:
    """Channels and stride of every block: twice the channels on half the map from group to group.

    ``blocks`` counts those of each group, the first of which has ``width`` channels.
    """
    for group, count in enumerate(blocks):
        for i in range(count):
            yield width << group, 2 if group and i == 0 else 1


def dropped(p: float) -> list[nn.Module]:
    """Dropout, or nothing where no element is to be dropped."""
    return [Dropout(p)] if p else []


def zero_head(channels: int, classes: int) -> list[nn.Module]:
    """The mean over the map, and a linear layer of zeros."""
    head = nn.Linear(channels, classes)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), head]
