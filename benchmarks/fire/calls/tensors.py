"""Tensors in a line of text: shape, dtype, numbers and how they lie in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
SIZES = {"denormal": 1e-40, "tiny": 1e-30, "small": 1e-12, "large": 1e9, "huge": 1e30}
NUMBERS = (
    *("normal", "whole", "zeros", "ones", "alike"),
    *SIZES,
    *("all sizes", "some zeros"),
    *(f"one {name}" for name in BAD),
)
ORDINARY = ("normal", "whole", "zeros", "ones", "alike", "some zeros")


def numbers(name: str, shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """What is called so, in ``dtype``."""
    generator = Generator().manual_seed(seed)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if name == "whole":
        found = torch.randint(-3, 4, shape, generator=generator).double()
    elif name in ("zeros", "ones"):
        found = torch.full(shape, float(name == "ones"), dtype=torch.float64)
    elif name == "alike" and shape:  # equal rows
        found = normal[:1].expand(shape).clone()
    elif name in SIZES:
        found = normal * _within(SIZES[name], dtype)
    elif name == "all sizes":
        exponents = torch.rand(shape, generator=generator, dtype=torch.float64) * 60 - 30
        found = (normal * 10**exponents).clamp(-_most(dtype), _most(dtype))
    else:
        found = normal
        if name == "some zeros":
            found[torch.rand(shape, generator=generator) < 0.5] = 0
        elif name.startswith("one ") and found.numel():
            place = int(torch.randint(found.numel(), (), generator=generator))
            found.view(-1)[place] = BAD[name.removeprefix("one ")]
    return found.to(dtype)


def _most(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max / 2


def _within(size: float, dtype: torch.dtype) -> float:
    """The size, or the one that float16 has in its place."""
    info = torch.finfo(dtype)
    return min(max(size, info.smallest_normal / 100), info.max / 10)


def _sliced(t: Tensor) -> Tensor:
    return torch.stack([t, t + 1], dim=-1)[..., 0]


def _transposed(t: Tensor) -> Tensor:
    return t.mT.contiguous().mT if t.dim() > 1 else t


def _shifted(t: Tensor) -> Tensor:
    """Not at the start of its memory, so that no vector of numbers is aligned."""
    memory = t.new_zeros(t.numel() + 1)
    return memory[1:].view(t.shape).copy_(t)


def _negated(t: Tensor) -> Tensor:
    """A view that stands for the opposite of what is in memory, as of imaginary parts."""
    return torch._neg_view(-t)


def _channels_last(t: Tensor) -> Tensor:
    return t.to(memory_format=torch.channels_last) if t.dim() == 4 else t


def _expanded(t: Tensor) -> Tensor:
    return t[:1].expand(t.shape) if t.dim() and t.shape[0] else t


def _overlapping(t: Tensor) -> Tensor:
    """All steps are 1, so that most numbers stand for several elements."""
    if t.dim() < 2 or not t.numel():
        return t
    return t.flatten().as_strided(t.shape, [1] * t.dim())


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda t: t,
    "sliced": _sliced,
    "transposed": _transposed,
    "shifted": _shifted,
    "negated": _negated,
    "channels_last": _channels_last,
    "expanded": _expanded,
    "overlapping": _overlapping,
}
SHARING = ("expanded", "overlapping")


class Drawn(NamedTuple):
    """A tensor to be made; times ``scale``."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    numbers: str = "normal"
    layout: str = "plain"
    scale: float = 1.0
    seed: int = 0

    def make(self) -> Tensor:
        dtype = getattr(torch, self.dtype)
        if not dtype.is_floating_point:
            generator = Generator().manual_seed(self.seed)
            return torch.randint(int(self.scale), self.shape, generator=generator).to(dtype)
        found = numbers(self.numbers, self.shape, dtype, self.seed)
        if self.scale != 1:
            found = (found * self.scale).to(dtype)
        return LAYOUTS[self.layout](found)


def unwritable(drawn: Drawn) -> bool:
    """Whether two elements lie in one place of memory, or their opposites are there."""
    t = drawn.make()
    places = torch.zeros(t.shape, dtype=torch.long)
    for dim, (size, step) in enumerate(zip(t.shape, t.stride(), strict=True)):
        places += (torch.arange(size) * step).view(-1, *[1] * (t.dim() - dim - 1))
    return t.is_neg() or places.unique().numel() < t.numel()
