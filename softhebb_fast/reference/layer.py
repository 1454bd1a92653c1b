"""The layer: product, activity and update of one batch; its steps in place; its blocks."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.options import RULE, Competition, Convolution, Epilogue, Rate, Rule
from softhebb_fast.reference.product import accumulated, convolve, lebesgue_weight, pad
from softhebb_fast.reference.rules import (
    activity,
    bias_update,
    hebbian_update,
    statistic,
)
from softhebb_fast.reference.step import step_


class SoftHebbOutput(NamedTuple):
    """What one Hebbian forward pass gives.

    Attributes:
        u: pre-activations before the update, ``[B, K, OH, OW]`` or ``[..., K]``, in the dtype of x.
        delta_w: normalised ascent direction, of the shape and dtype of the weight, at most 1
            (each group of channels is normalised by its own maximum).
        delta_b: ascent direction of the bias, ``[K]``, over its largest magnitude in all
            groups; None without a bias or for hard competitions.
    """

    u: Tensor
    delta_w: Tensor
    delta_b: Tensor | None


class HebbianOutput(NamedTuple):
    """What one Hebbian forward pass of any rule gives.

    Attributes:
        u: pre-activations before the update, ``[B, K, OH, OW]`` or ``[..., K]``, in the dtype of x.
        delta_w: ascent direction, of the shape and dtype of the weight, normalised as asked for.
        delta_b: ascent direction of the bias, ``[K]``; None but for soft competitions with a bias.
        statistic: what the rule's state follows from, in the dtype of the sums (float64 of float64,
            else float32): the sums over all positions of the activity, ``[K]``, for ``"instar"``
            and ``"kmeans"``; of u squared, ``[K]``, for ``"bcm"``; of products of activities,
            ``[K, K / groups]``, for ``"similarity"``; else None.
    """

    u: Tensor
    delta_w: Tensor
    delta_b: Tensor | None
    statistic: Tensor | None


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    rule: Rule = RULE,
) -> HebbianOutput:
    """Convolution, activity and update of one batch ``x [B, C, H, W]``."""
    x_c, w_c, b_c = (None if t is None else accumulated(t) for t in (x, weight, bias))
    x_c = pad(x_c, convolution.padding, convolution.padding_mode)
    u = pre_activations(x_c, w_c, b_c, convolution, competition.lebesgue_p)
    with torch.no_grad():
        a = activity(u, w_c, competition, rule, groups=convolution.groups)
        d = hebbian_update(x_c, a, u, w_c, convolution, rule)
        b = None if b_c is None else bias_update(a, b_c, competition, rule)
        s = statistic(a, u, rule, convolution.groups)
    return _as_output(x, weight, bias, u, d, b, s)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    competition: Competition,
    rule: Rule = RULE,
) -> HebbianOutput:
    """Matrix product, activity and update of one batch ``x [B, N]``, as ``conv2d``."""
    x_c, w_c, b_c = (None if t is None else accumulated(t) for t in (x, weight, bias))
    u = F.linear(x_c, lebesgue_weight(w_c, competition.lebesgue_p), b_c)
    with torch.no_grad():
        a = activity(u, w_c, competition, rule, overwrite=True)
        d = hebbian_update(x_c, a, u, w_c, rule=rule)
        b = None if b_c is None else bias_update(a, b_c, competition, rule)
        s = statistic(a, u, rule)
    return _as_output(x, weight, bias, u, d, b, s)


def pre_activations(
    x: Tensor, weight: Tensor, bias: Tensor | None, convolution: Convolution, lebesgue_p: float
) -> Tensor:
    """u of ``x [B, C, H, W]``, which is padded."""
    wt = lebesgue_weight(weight, lebesgue_p)
    stride, _, dilation, groups, *_ = convolution
    u = convolve(x, wt, bias, stride, (0, 0), dilation, groups)
    return F.relu(u - u.mean(dim=1, keepdim=True)) if convolution.pre_triangle else u


@torch.no_grad()
def conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
    rule: Rule = RULE,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``conv2d``, then ``step_``: u, the direction of the bias and the statistic."""
    out = conv2d(x, weight, bias, convolution, competition, rule)
    step_(weight, out.delta_w, rate, competition.lebesgue_p)
    return out.u, out.delta_b, out.statistic


@torch.no_grad()
def linear_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    competition: Competition,
    rule: Rule = RULE,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``linear``, then ``step_``: u, the direction of the bias and the statistic."""
    out = linear(x, weight, bias, competition, rule)
    step_(weight, out.delta_w, rate, competition.lebesgue_p)
    return out.u, out.delta_b, out.statistic


@torch.no_grad()
def block_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
) -> Tensor:
    """The epilogue of ``conv2d``'s u."""
    return epilogue.apply(conv2d(x, weight, bias, convolution, competition).u)


@torch.no_grad()
def block_update(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
    rule: Rule = RULE,
) -> HebbianOutput:
    """``conv2d`` with the epilogue of u in the place of u."""
    out = conv2d(x, weight, bias, convolution, competition, rule)
    return out._replace(u=epilogue.apply(out.u))


@torch.no_grad()
def block_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
    rule: Rule = RULE,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``conv2d_step_`` with the epilogue of u in the place of u."""
    u, *rest = conv2d_step_(x, weight, bias, rate, convolution, competition, rule)
    return epilogue.apply(u), *rest


def _as_output(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    u: Tensor,
    d: Tensor,
    b: Tensor | None,
    s: Tensor | None,
) -> HebbianOutput:
    delta_b = None if b is None else b.to(bias.dtype)
    return HebbianOutput(u.to(x.dtype), d.to(weight.dtype), delta_b, s)
