"""Random weights, and their opposite: constants, means and zeros."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from softhebb_fast.init.common import centre, check_positive, draw, fan_in
from softhebb_fast.init.diversity import check_weight
from softhebb_fast.scalars import number


@torch.no_grad()
def normal_(
    weight: Tensor,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Gaussian weights whose filters have about `radius` as their p-norm.

    The deviation is (R^p / (N·E|z|^p))^(1/p), z standard normal; for p = 2 that is R/√N, the rule
    of Journé et al. 2023 as their code applies it. Any p > 0 will do, 1 and fractions included.

    Raises ValueError for a radius or p that is not positive and finite.
    """
    check_weight(weight)
    radius = check_positive("radius", radius)
    lebesgue_p = check_positive("lebesgue_p", lebesgue_p)
    moment = 2 ** (lebesgue_p / 2) * math.gamma((lebesgue_p + 1) / 2) / math.sqrt(math.pi)
    deviation = radius / (fan_in(weight) * moment) ** (1 / lebesgue_p)
    return weight.copy_(draw(torch.randn, weight, generator).mul_(deviation))


@torch.no_grad()
def positive_(
    weight: Tensor,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Uniform weights on [0, a) with a = ((p+1)·R^p / N)^(1/p); for p = 2, a = R·√(3/N).

    The published SoftHebb code starts every layer without batch normalisation this way.

    Raises ValueError for a radius or p that is not positive and finite.
    """
    check_weight(weight)
    radius = check_positive("radius", radius)
    lebesgue_p = check_positive("lebesgue_p", lebesgue_p)
    width = radius * ((lebesgue_p + 1) / fan_in(weight)) ** (1 / lebesgue_p)
    return weight.copy_(draw(torch.rand, weight, generator).mul_(width))


@torch.no_grad()
def negative_(
    weight: Tensor,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The mirror image of `positive_`: uniform weights on (-a, 0], same draws, same errors."""
    return positive_(weight, radius, lebesgue_p, generator).neg_()


@torch.no_grad()
def random_binary_(
    weight: Tensor, probability: float = 0.5, generator: torch.Generator | None = None
) -> Tensor:
    """Unscaled zeros and ones, each entry one with `probability`.

    The "random ZerO" of Le, Xu, Zhuang. At one half the draw is an integer one, which reproduces
    the published counts of non-zeros from their seeds.

    Raises ValueError unless 0 <= probability <= 1.
    """
    check_weight(weight)
    probability = number("probability", probability)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be between 0 and 1; got {probability=}")
    if probability == 0.5:
        return weight.copy_(draw(_random_bits, weight, generator))
    return weight.copy_(draw(torch.rand, weight, generator) < probability)


@torch.no_grad()
def constant_(weight: Tensor, value: float | None = None, radius: float = 25.0) -> Tensor:
    """Identical filters with identical entries: a start without any feature diversity.

    This asks the question of ConstNet (Blumenfeld et al. 2020) in its plainest form. Every entry
    is `value`, or radius/√N where none is given, so that each filter has `radius` as its 2-norm.

    Raises ValueError for a value that is not finite or a radius that is not positive and finite,
    also in the dtype of the weight.
    """
    check_weight(weight)
    radius, name = check_positive("radius", radius), "value"
    if value is None:
        value, name = radius / math.sqrt(fan_in(weight)), "radius"
    value, largest = number("value", value), torch.finfo(weight.dtype).max
    if not abs(value) <= largest:
        raise ValueError(
            f"{name} must be finite, in {weight.dtype} at most {largest:g}; got an entry of {value}"
        )
    return weight.fill_(value)


@torch.no_grad()
def averaging_(weight: Tensor) -> Tensor:
    """Every neuron the mean of its input channels: 1/C at the middle tap, zero elsewhere.

    All neurons are equal, so all channels behind them are. The stem and the skips of ConstNet
    (Blumenfeld et al. 2020).
    """
    check_weight(weight)
    weight.zero_()
    centre(weight).fill_(1 / weight.shape[1])
    return weight


@torch.no_grad()
def zeros_(weight: Tensor) -> Tensor:
    """Every entry zero. Nothing is ever learned behind such a layer unless something goes round it.

    ZerO is another thing (`zerO_`).
    """
    check_weight(weight)
    return weight.zero_()


def _random_bits(shape: torch.Size, **options: Any) -> Tensor:
    return torch.randint(0, 2, shape, **options)
