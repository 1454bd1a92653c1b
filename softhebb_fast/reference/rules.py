"""The rules: activity A, gain G and ``D[k] = sum_p A[p, k] x_p - sum_j G[k, j] W_j``, normalised.

The fields of ``options.Rule`` say which. Sources: Hebb 1949; Oja 1982 (linear, product); Sanger
1989 (linear, lower); Grossberg 1976 (competition, activity); MacQueen 1967 (the same, hard,
nearest, count); Bienenstock, Cooper and Munro 1982 (threshold); Widrow and Hoff 1960 (error);
Krotov and Hopfield 2019 (competition "hard_anti"); Földiák 1990, Pehlevan, Hu and Chklovskii 2015
(lateral).
"""

from __future__ import annotations

import torch
from torch import Tensor

from softhebb_fast.options import CONVOLUTION, RULE, Competition, Convolution, Rule
from softhebb_fast.reference.competition import soft_wta
from softhebb_fast.reference.product import EPSILON

SETTLING_STEPS = 10


def activity(
    u: Tensor,
    weight: Tensor,
    competition: Competition,
    rule: Rule = RULE,
    *,
    groups: int = 1,
    overwrite: bool = False,
) -> Tensor:
    """A of pre-activations ``u [B, K, ...]``, of the same shape, before any modulator.

    ``weight`` is asked for distances. ``overwrite`` is the linear layer's form of ``"hard_anti"``.
    """
    if rule.activity == "competition":
        u = rivals(u, weight, rule)
        return soft_wta(u, competition, groups=groups, overwrite=overwrite)
    if rule.activity == "linear":
        return u
    if rule.activity == "threshold":
        return u * (u - per_neuron(rule.threshold, u))
    if rule.activity == "target":
        return rule.target
    if rule.settles:
        return settle(u, rule.lateral, rectified=rule.activity == "rectified_lateral")
    soft = competition._replace(wta="soft")
    return rule.target - soft_wta(u, soft, groups=groups)


def rivals(u: Tensor, weight: Tensor, rule: Rule) -> Tensor:
    """What competes of ``u [B, K, ...]``: u less a handicap, and where the nearest weights are to
    win less half of their squared norm."""
    if rule.nearest:
        u = u - per_neuron(weight.flatten(1).square().sum(dim=1) / 2, u)
    return u if rule.threshold is None else u - per_neuron(rule.threshold, u)


def modulated(a: Tensor, rule: Rule) -> Tensor:
    """The activity times the rule's third factor, if it has one."""
    return a if rule.modulator is None else a * rule.modulator


def hebbian_update(
    x: Tensor,
    y: Tensor,
    u: Tensor,
    weight: Tensor,
    convolution: Convolution = CONVOLUTION,
    rule: Rule = RULE,
) -> Tensor:
    """The normalised ascent direction, of the shape of ``weight``, for an activity ``y``.

    ``x`` is the input as the product saw it: padded ``[B, C, H, W]``, or ``[B, N]``. Of no sample
    it is 0.
    """
    if x.shape[0] == 0:
        return torch.zeros_like(weight)
    stride, _, dilation, groups, *_ = convolution
    a = modulated(y, rule)
    if weight.dim() == 4:
        d = torch.nn.grad.conv2d_weight(x, weight.shape, a, stride, 0, dilation, groups)
        d = d.contiguous()
    else:
        d = a.t() @ x
    if rule.gain == "lower":
        d = d - lower(a, u, weight, groups)
    elif rule.gain != "none":
        other = {"product": u, "activity": None, "square": y}[rule.gain]
        gain = over_positions(a if other is None else a * other)
        d = d - per_weight(gain, weight) * weight
    positions = u.numel() // u.shape[1]
    if rule.decay:
        d = d - rule.decay * positions * weight
    return normalised(d, a, rule, groups)


def lower(a: Tensor, u: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """``sum_j G[k, j] W_j`` with G the lower triangle of ``sum_p a[p, k] u[p, j]`` of a group."""
    parts = []
    grouped = a.chunk(groups, 1), u.chunk(groups, 1), weight.chunk(groups)
    for a_g, u_g, w_g in zip(*grouped, strict=True):
        both = a_g.transpose(0, 1).flatten(1) @ u_g.transpose(0, 1).flatten(1).t()
        parts.append(both.tril() @ w_g.flatten(1))
    return torch.cat(parts).view(weight.shape)


def normalised(d: Tensor, a: Tensor, rule: Rule, groups: int = 1) -> Tensor:
    """D of a batch, as ``rule.normalise`` says; a is the activity in it."""
    count = None
    if rule.normalise == "mean":
        count = d.new_full((), a.numel() // a.shape[1])
    elif rule.normalise == "count":
        count = over_positions(a)
    return divided(d, count, rule, groups)


def divided(d: Tensor, count: Tensor | None, rule: Rule, groups: int = 1) -> Tensor:
    """D of a batch, as ``rule.normalise`` says: of ``count`` positions for ``"mean"``, of so much
    activity ``[K]`` for ``"count"``."""
    if rule.normalise == "max":
        largest = d.reshape(groups, -1).abs().amax(dim=1)
        return d / (per_weight(largest.repeat_interleave(d.shape[0] // groups), d) + EPSILON)
    if rule.normalise == "mean":
        return d / count.clamp(min=1)
    if rule.normalise == "count":
        return d / (per_weight(rule.counts + count, d) + EPSILON)
    return d


def statistic(a: Tensor, u: Tensor, rule: Rule, groups: int = 1) -> Tensor | None:
    """What ``rule.statistic`` names, summed over the positions; None if nothing."""
    if rule.statistic is None:
        return None
    if rule.statistic == "products":
        return correlations(a, rule, groups)
    return over_positions(u * u if rule.statistic == "square" else modulated(a, rule))


def bias_update(
    y: Tensor, bias: Tensor, competition: Competition, rule: Rule = RULE
) -> Tensor | None:
    """``bias_sums`` divided by their largest magnitude; None where there is no rule."""
    d = bias_sums(y, bias, competition, rule)
    return None if d is None else over_largest(d)


def bias_sums(
    y: Tensor, bias: Tensor, competition: Competition, rule: Rule = RULE
) -> Tensor | None:
    """``(sum_p y - e^(t b) n) / e^(t b)`` over n positions, ``[K]``.

    A modulator multiplies what every position adds, also to n. Of no sample it is 0. Hard
    competitions and other activities have no rule for the bias: None.
    """
    if not (competition.soft and rule.learns_bias):
        return None
    if y.shape[0] == 0:
        return torch.zeros_like(bias)
    positions = y.numel() // y.shape[1] if rule.modulator is None else rule.modulator.sum()
    prior = torch.exp(competition.t_invert * bias)
    a = modulated(y, rule)
    return (a.transpose(0, 1).flatten(1).sum(dim=1) - prior * positions) / prior


def over_largest(d: Tensor) -> Tensor:
    """``d`` over its largest magnitude, plus 1e-30."""
    return d / (d.abs().max() + EPSILON)


def settle(u: Tensor, lateral: Tensor, *, rectified: bool = False) -> Tensor:
    """The activity y of neurons that inhibit each other: ``y = f(u - y M^T)``, of the shape of u.

    Of ``u [B, K, ...]`` and ``lateral`` M ``[K, K / groups]``: M[k, j] is what the j-th neuron of
    its group takes from neuron k. f is the identity, and y then solves ``(I + M) y = u``; or relu,
    and y is what ``SETTLING_STEPS`` steps ``y = f(y + s (u - y - M y))`` make of 0, with s
    the inverse of the largest row sum of ``|I + M|``.
    """
    size = lateral.shape[1]
    m = lateral.view(-1, size, size)
    columns = u.transpose(0, 1).reshape(m.shape[0], size, -1)
    both = m + torch.eye(size, dtype=m.dtype, device=m.device)
    if rectified:
        s = 1 / both.abs().sum(dim=2, keepdim=True).amax(dim=1, keepdim=True)
        y = torch.zeros_like(columns)
        for _ in range(SETTLING_STEPS):
            y = torch.relu(y + s * (columns - both @ y))
    else:
        # One by one: with threads, MKL fails on a batch (pytorch/pytorch#142815).
        solved = [torch.linalg.solve_ex(*pair).result for pair in zip(both, columns, strict=True)]
        y = torch.stack(solved)
    return y.reshape(u.shape[1], u.shape[0], *u.shape[2:]).transpose(0, 1)


def correlations(y: Tensor, rule: Rule, groups: int) -> Tensor:
    """``sum_p y[p, k] y[p, j]`` inside groups, ``[K, K / groups]``, times the modulator."""
    a = modulated(y, rule)
    parts = zip(a.chunk(groups, 1), y.chunk(groups, 1), strict=True)
    return torch.cat(
        [p.transpose(0, 1).flatten(1) @ q.transpose(0, 1).flatten(1).t() for p, q in parts]
    )


def over_positions(t: Tensor) -> Tensor:
    """The sums of ``t [B, K, ...]`` over all dimensions but that of the neurons, ``[K]``."""
    return t.sum(dim=(0, *range(2, t.dim())))


def per_neuron(t: Tensor, u: Tensor) -> Tensor:
    """``t [K]`` beside ``u [B, K, ...]``."""
    return t.view(-1, *[1] * (u.dim() - 2))


def per_weight(t: Tensor, weight: Tensor) -> Tensor:
    """``t [K]`` beside ``weight [K, ...]``."""
    return t.view(-1, *[1] * (weight.dim() - 1))
