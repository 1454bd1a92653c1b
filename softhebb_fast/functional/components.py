"""The parts of the layer on their own: competition, update, rates, statistics."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from softhebb_fast import reference
from softhebb_fast.checks import (
    check_direction,
    check_writable,
    checked_groups,
    checked_step,
    checked_update,
)
from softhebb_fast.functional.autocast import autocast_disabled
from softhebb_fast.functional.distributed import over
from softhebb_fast.functional.rounding import add_
from softhebb_fast.functional.rule_tensors import checked_rate
from softhebb_fast.kinds import ROUNDINGS
from softhebb_fast.options import (
    COMPETITION,
    CONVOLUTION,
    RULE,
    Competition,
    Convolution,
    Rate,
    check_among,
)
from softhebb_fast.scalars import number


def soft_wta(
    u: Tensor,
    t_invert: float = COMPETITION.t_invert,
    wta: str = COMPETITION.wta,
    *,
    groups: int = CONVOLUTION.groups,
    delta: float = COMPETITION.delta,
    rank: int = COMPETITION.rank,
    overwrite: bool = False,
    tie_rule: str = COMPETITION.tie_rule,
) -> Tensor:
    """The competition variable y of pre-activations ``u [B, K]`` or ``[B, K, ...]``, same shape.

    Neurons lie in dimension 1 and compete at every position, inside their group.
    ``overwrite`` is the linear layer's form of ``"hard_anti"``. Options and errors as in
    ``softhebb_conv2d``: ``t_invert``, ``wta``, ``delta``, ``rank``, ``groups``, ``tie_rule``.
    """
    groups = checked_groups(u, groups)
    competition = Competition(t_invert, wta, delta, rank, tie_rule=tie_rule)
    competition = competition.checked(u.shape[1] // groups)
    y = reference.soft_wta(
        reference.accumulated(u), competition, groups=groups, overwrite=overwrite
    )
    return y.to(u.dtype)


def hebbian_update(
    x: Tensor,
    y: Tensor,
    u: Tensor,
    weight: Tensor,
    *,
    stride: int | tuple[int, int] = CONVOLUTION.stride,
    padding: int | tuple[int, int] | str = CONVOLUTION.padding,
    dilation: int | tuple[int, int] = CONVOLUTION.dilation,
    groups: int = CONVOLUTION.groups,
    padding_mode: str = CONVOLUTION.padding_mode,
    process_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """The normalised ascent direction of ``weight`` for any competition variable ``y``.

    Shapes: x ``[B, C, H, W]``, y and u ``[B, K, OH, OW]``, weight ``[K, C / groups, R, S]``; or
    x ``[B, N]``, y and u ``[B, K]``, weight ``[K, N]``; x, y and u of one image may come without
    B. Returns a tensor like ``weight``. With ``y`` a one-hot target this is the supervised Hebbian
    rule. ``stride``, ``padding``, ``dilation``, ``groups``, ``padding_mode``, ``process_group`` and
    errors as in ``softhebb_conv2d``.
    """
    given = Convolution(stride, padding, dilation, groups, padding_mode)
    x, y, u, convolution = checked_update(x, y, u, weight, given)
    x, y, u, w = (reference.accumulated(t) for t in (x, y, u, weight))
    if w.dim() == 4:
        x = reference.pad(x, convolution.padding, padding_mode)
    with autocast_disabled(w.device):
        if process_group is None:
            d = reference.hebbian_update(x, y, u, w, convolution)
        else:
            raw = RULE._replace(normalise="none")
            d = over(process_group)(reference.hebbian_update(x, y, u, w, convolution, raw))
            d = reference.divided(d, None, RULE, convolution.groups)
    return d.to(weight.dtype)


def norm_dependent_rate(
    weight: Tensor,
    lr: float | Tensor,
    lr_power: float = 0.5,
    lebesgue_p: float = COMPETITION.lebesgue_p,
) -> Tensor:
    """The rate ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power`` of every neuron k, ``[K]``.

    Shape: weight ``[K, ...]``. float64 for a float64 weight, else float32. A neuron of norm 1 is
    all but frozen. Errors as in ``softhebb_conv2d``. Source: Journé et al. 2023 (arXiv 2209.11883).

    ``lebesgue_p`` is the exponent of the norm.
    """
    lebesgue_p = checked_step(weight, lebesgue_p)
    return reference.norm_dependent_rate(
        weight, _rate(lr), number("lr_power", lr_power), lebesgue_p
    )


def hebbian_step_(
    weight: Tensor,
    delta_w: Tensor,
    lr: float | Tensor,
    lr_power: float = 0.5,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    *,
    neuron_rates: Tensor | None = None,
    unit_norm: bool = False,
    rounding: str = "nearest",
) -> Tensor:
    """``W += norm_dependent_rate(W) * delta_w`` in place; returns ``weight``. delta_w as weight.

    The rates are those of ``norm_dependent_rate`` for ``lr``, ``lr_power`` and ``lebesgue_p``,
    times ``neuron_rates`` ``[K]``. ``unit_norm`` scales the weights to Lebesgue norm 1 after the
    step, but neurons whose rate is 0.

    ``rounding="stochastic"`` rounds sums in float16 or bfloat16 up or down with probabilities that
    keep their mean, by torch's global generator of the weight's device. Steps far below the
    spacing of 16-bit numbers are then not lost. float32 and float64 are not affected.
    """
    check_direction(weight, delta_w)
    lebesgue_p = checked_step(weight, lebesgue_p)
    check_writable(weight)
    check_among("rounding", rounding, ROUNDINGS)
    rate = Rate(_rate(lr), number("lr_power", lr_power))
    if neuron_rates is not None or unit_norm:
        rate = checked_rate(0.0, rate.lr_power, weight, neuron_rates, unit_norm)._replace(
            lr=rate.lr
        )
    if rounding == "nearest":
        return reference.step_(weight, delta_w, rate, lebesgue_p)
    with torch.no_grad():
        own = reference.rates(weight, rate, lebesgue_p)
        step = own.view(-1, *[1] * (weight.dim() - 1)) * delta_w
        if rate.unit_norm:
            w = reference.accumulated(weight)
            step = reference.unit(w + step, own, lebesgue_p) - w
        return add_(weight, step, rounding)


def _rate(lr: float | Tensor) -> float | Tensor:
    return lr if isinstance(lr, Tensor) else number("lr", lr)


class CompetitionStatistics(NamedTuple):
    """How a batch was shared out among the neurons.

    Attributes:
        share: every neuron's share of the positions, ``[K]``, summing to 1 in each group: of the
            softmax for soft competitions, of the wins for hard ones.
        winner_probability: mean softmax probability of the winner; 1 for hard competitions.
        entropy: mean entropy in bits of the softmax over the neurons of a group, log2 of their
            number at most; 0 for hard competitions.
    """

    share: Tensor
    winner_probability: float
    entropy: float


@torch.no_grad()
def competition_statistics(
    u: Tensor,
    t_invert: float = COMPETITION.t_invert,
    wta: str = COMPETITION.wta,
    *,
    groups: int = CONVOLUTION.groups,
    tie_rule: str = COMPETITION.tie_rule,
) -> CompetitionStatistics:
    """Winner statistics of pre-activations ``u [B, K]`` or ``[B, K, ...]``; NaN without any.

    ``t_invert``, ``wta``, ``groups`` and ``tie_rule`` as in ``softhebb_conv2d``.
    """
    groups = checked_groups(u, groups)
    competition = Competition(t_invert, wta, rank=1, tie_rule=tie_rule)
    competition = competition.checked(u.shape[1] // groups)
    shared = competition._replace(wta="soft" if competition.soft else "hard")
    p = reference.soft_wta(reference.accumulated(u), shared, groups=groups)
    share = p.transpose(0, 1).flatten(1).mean(dim=1)
    grouped = p.unflatten(1, (groups, -1))
    entropy = torch.special.entr(grouped).sum(dim=2).mean() / math.log(2)
    return CompetitionStatistics(share, float(grouped.amax(dim=2).mean()), float(entropy))
