"""Learning rates that decay, and the classifier's halvings.

Sources: Journé et al. 2023 (arXiv 2209.11883), section 3 and appendix A; the published presets.
Schedules are pure functions of the step, so that a resumed run needs nothing but its step count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from softhebb_fast.scalars import number, plain, positive, whole


@dataclass(frozen=True)
class Constant:
    """The same rate ``lr`` at every step."""

    lr: float

    def __post_init__(self) -> None:
        _plain(self, lr=number)

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class LinearDecay:
    """From ``lr`` at step 0 in equal decrements to 0 at ``total_steps``, and 0 from there on."""

    lr: float
    total_steps: int

    def __post_init__(self) -> None:
        _plain(self, lr=number, total_steps=_total)

    def __call__(self, step: int) -> float:
        return self.lr * max(0.0, 1 - step / self.total_steps)


@dataclass(frozen=True)
class ExponentialDecay:
    """From ``lr`` at step 0 exponentially to ``lr / divisor`` at ``total_steps``.

    At the share x of ``total_steps`` the part ``(1 - exp(-speed x)) / (1 - exp(-speed))`` of that
    way is behind: x itself for a small ``speed``. Beyond ``total_steps`` the rate falls on.

    The published nets use ``speed=7, divisor=96``, the published perceptrons 0.4 and 100.
    """

    lr: float
    total_steps: int
    speed: float = 7.0
    divisor: float = 96.0

    def __post_init__(self) -> None:
        _plain(self, lr=number, total_steps=_total, speed=positive, divisor=positive)

    def __call__(self, step: int) -> float:
        share = math.expm1(-self.speed * (step / self.total_steps)) / math.expm1(-self.speed)
        return self.lr * (1 - share + share / self.divisor)


@dataclass(frozen=True)
class Milestones:
    """``lr`` times ``factor`` for every one of ``milestones`` (steps) behind.

    In the first ``warm_up`` steps the rate grows linearly. Raises ValueError for a ``factor`` whose
    product over all milestones is not finite.
    """

    lr: float
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    warm_up: int = 0

    def __post_init__(self) -> None:
        _plain(self, lr=number, factor=number, warm_up=_from_zero)
        if not isinstance(self.milestones, Iterable):
            raise TypeError(f"milestones must be steps; got {self.milestones!r}")
        milestones = tuple(_from_zero("milestones", step) for step in self.milestones)
        object.__setattr__(self, "milestones", milestones)
        if not _finite_power(self.factor, len(milestones)):
            raise ValueError(
                f"factor must be finite when taken {len(milestones)} times, once for every one of "
                f"milestones; got {self.factor!r}"
            )

    def __call__(self, step: int) -> float:
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.lr * self.factor**passed * min(1.0, (step + 1) / max(self.warm_up, 1))


HALVINGS = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)  # of all epochs, in a long run


def halving_epochs(epochs: int) -> list[int]:
    """The epochs after which the published classifier's rate is halved, for a run of ``epochs``."""
    epochs = _from_zero("epochs", epochs)
    if epochs < 20:
        return []
    fractions = (0.5, 0.75) if epochs < 50 else HALVINGS
    return [int(epochs * fraction) for fraction in fractions]


def halving_schedule(optimizer: Optimizer, epochs: int) -> MultiStepLR:
    """A scheduler that halves the rate at ``halving_epochs``; step it once after each epoch.

    ``epochs`` are those of the whole run, ``optimizer`` is torch's.
    """
    return MultiStepLR(optimizer, milestones=halving_epochs(epochs), gamma=0.5)


def _finite_power(base: float, exponent: int) -> bool:
    try:
        return math.isfinite(base**exponent)
    except OverflowError:
        return False


def _from_zero(name: str, value: int) -> int:
    return whole(name, value, least=0)


def _total(name: str, value: float) -> float:
    if not number(name, value) >= 1:
        raise ValueError(f"{name} must be at least 1; got {value!r}")
    return plain(value)


def _plain(schedule: object, **kinds: Callable[[str, Any], Any]) -> None:
    """Put plain numbers of these kinds in the place of what a schedule was given."""
    for name, kind in kinds.items():
        object.__setattr__(schedule, name, kind(name, getattr(schedule, name)))
