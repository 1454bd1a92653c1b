"""The parts of the layer on their own: competition, update, rates, statistics."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast import reference
from softhebb_fast.checks import check_pre_activations, check_step, check_update
from softhebb_fast.functional.autocast import autocast_disabled
from softhebb_fast.options import COMPETITION, CONVOLUTION, Competition, Convolution


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
    ``softhebb_conv2d``.
    """
    check_pre_activations(u, groups)
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
    padding: int | tuple[int, int] = CONVOLUTION.padding,
    dilation: int | tuple[int, int] = CONVOLUTION.dilation,
    groups: int = CONVOLUTION.groups,
    padding_mode: str = CONVOLUTION.padding_mode,
) -> Tensor:
    """The normalised ascent direction of ``weight`` for any competition variable ``y``.

    Shapes: x ``[B, C, H, W]``, y and u ``[B, K, OH, OW]``, weight ``[K, C / groups, R, S]``; or
    x ``[B, N]``, y and u ``[B, K]``, weight ``[K, N]``. Returns a tensor like ``weight``. With
    ``y`` a one-hot target this is the supervised Hebbian rule. Errors as in ``softhebb_conv2d``.
    """
    convolution = Convolution(stride, padding, dilation, groups, padding_mode).checked()
    check_update(x, y, u, weight, convolution)
    x, y, u, w = (reference.accumulated(t) for t in (x, y, u, weight))
    if w.dim() == 4:
        x = reference.pad(x, convolution.padding, padding_mode)
    with autocast_disabled(w.device):
        d = reference.hebbian_update(x, y, u, w, convolution)
    return d.to(weight.dtype)


def norm_dependent_rate(
    weight: Tensor, lr: float, lr_power: float = 0.5, lebesgue_p: float = COMPETITION.lebesgue_p
) -> Tensor:
    """The rate ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power`` of every neuron k, ``[K]``.

    Shape: weight ``[K, ...]``. float64 for a float64 weight, else float32. A neuron of norm 1 is
    all but frozen. Errors as in ``softhebb_conv2d``. Source: Journé et al. 2023 (arXiv 2209.11883).
    """
    check_step(weight, None, lebesgue_p)
    return reference.norm_dependent_rate(weight, lr, lr_power, lebesgue_p)


def hebbian_step_(
    weight: Tensor,
    delta_w: Tensor,
    lr: float,
    lr_power: float = 0.5,
    lebesgue_p: float = COMPETITION.lebesgue_p,
) -> Tensor:
    """``W += norm_dependent_rate(W) * delta_w`` in place; returns ``weight``. delta_w as weight."""
    check_step(weight, delta_w, lebesgue_p)
    return reference.hebbian_step_(weight, delta_w, lr, lr_power, lebesgue_p)


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
    """Winner statistics of pre-activations ``u [B, K]`` or ``[B, K, ...]``; NaN without any."""
    check_pre_activations(u, groups)
    competition = Competition(t_invert, wta, rank=1, tie_rule=tie_rule)
    competition = competition.checked(u.shape[1] // groups)
    shared = competition._replace(wta="soft" if competition.soft else "hard")
    p = reference.soft_wta(reference.accumulated(u), shared, groups=groups)
    share = p.transpose(0, 1).flatten(1).mean(dim=1)
    grouped = p.unflatten(1, (groups, -1))
    entropy = torch.special.entr(grouped).sum(dim=2).mean() / math.log(2)
    return CompetitionStatistics(share, float(grouped.amax(dim=2).mean()), float(entropy))
