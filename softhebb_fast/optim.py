"""Learning rates: norm-dependent per neuron, decaying schedules, and the classifier's halvings.

Sources: Journé et al. 2023 (arXiv 2209.11883), section 3 and appendix A; the published presets.
Schedules are pure functions of the step, so that a resumed run needs nothing but its step count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.hooks import RemovableHandle

from softhebb_fast.functional import hebbian_step_, norm_dependent_rate
from softhebb_fast.init.common import check_positive
from softhebb_fast.scalars import number, plain, positive, whole

__all__ = [
    "Constant",
    "ExponentialDecay",
    "LinearDecay",
    "Milestones",
    "gradient_noise",
    "halving_epochs",
    "halving_schedule",
    "hebbian_step_",
    "norm_dependent",
    "norm_dependent_rate",
]


def norm_dependent(
    optimizer: Optimizer, lr_power: float = 0.5, lebesgue_p: float = 2.0
) -> RemovableHandle:
    """Make an optimizer's steps on Hebbian weights norm-dependent, neuron by neuron.

    Before each step every gradient is multiplied by ``(| ||W_k|| - 1 | + 1e-10)^q``; the
    optimizer's own ``lr`` is the base rate. Give each layer a parameter group of its own: a bias
    takes the factors of the weight that precedes it in the group. ``lebesgue_p`` is the exponent of
    the norms. The optimizer must ascend:
    ``maximize=True``, or a negative ``lr`` as in the published example.

    Returns a handle whose ``remove()`` ends it.

    Example::

        optimizer = torch.optim.SGD(layer.parameters(), lr=0.08, maximize=True)
        norm_dependent(optimizer, lr_power=0.5)
    """

    @torch.no_grad()
    def scale_gradients(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        for group in optimizer.param_groups:
            factor = None
            for p in group["params"]:
                if p.dim() > 1:
                    factor = norm_dependent_rate(p, 1.0, lr_power, lebesgue_p)
                if factor is None:
                    raise ValueError(
                        "a group of optimizer must hold a weight before its bias; got a parameter "
                        f"of shape {tuple(p.shape)} first"
                    )
                if p.grad is not None:
                    p.grad.mul_(factor.view(-1, *[1] * (p.dim() - 1)))

    return optimizer.register_step_pre_hook(scale_gradients)


def gradient_noise(optimizer: Optimizer, size: float) -> RemovableHandle:
    """Add N(0, size²) to every gradient before each of the optimizer's steps.

    Channels that are equal part, as they do by the rounding of non-deterministic sums (ConstNet,
    Blumenfeld et al. 2020). Numbers come from torch's global generator of the gradient's device.

    Returns a handle whose ``remove()`` ends it. Raises TypeError if ``optimizer`` is none,
    ValueError for a size that is not positive and finite.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer; got {optimizer!r}")
    size = check_positive("size", size)

    @torch.no_grad()
    def add_noise(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.add_(torch.randn_like(p.grad), alpha=size)

    return optimizer.register_step_pre_hook(add_noise)


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

    The published nets use ``speed=7, divisor=96``, the published perceptrons 0.4 and 100.
    """

    lr: float
    total_steps: int
    speed: float = 7.0
    divisor: float = 96.0

    def __post_init__(self) -> None:
        _plain(self, lr=number, total_steps=_total, speed=positive, divisor=positive)

    def __call__(self, step: int) -> float:
        end = math.exp(-self.speed)
        floor = self.lr * (1 / self.divisor - end) / (1 - end)
        return floor + (self.lr - floor) * math.exp(-self.speed * step / self.total_steps)


@dataclass(frozen=True)
class Milestones:
    """``lr`` times ``factor`` for every one of ``milestones`` (steps) behind.

    In the first ``warm_up`` steps the rate grows linearly.
    """

    lr: float
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    warm_up: int = 0

    def __post_init__(self) -> None:
        _plain(self, lr=number, factor=number, warm_up=_from_zero)
        milestones = tuple(_from_zero("milestones", step) for step in self.milestones)
        object.__setattr__(self, "milestones", milestones)

    def __call__(self, step: int) -> float:
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.lr * self.factor**passed * min(1.0, (step + 1) / max(self.warm_up, 1))


def halving_epochs(epochs: int) -> list[int]:
    """The epochs after which the published classifier's rate is halved, for a run of ``epochs``."""
    epochs = _from_zero("epochs", epochs)
    if epochs < 20:
        return []
    fractions = (0.5, 0.75) if epochs < 50 else (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
    return [int(epochs * fraction) for fraction in fractions]


def halving_schedule(optimizer: Optimizer, epochs: int) -> MultiStepLR:
    """A scheduler that halves the rate at ``halving_epochs``; step it once after each epoch.

    ``epochs`` are those of the whole run, ``optimizer`` is torch's.
    """
    return MultiStepLR(optimizer, milestones=halving_epochs(epochs), gamma=0.5)


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
