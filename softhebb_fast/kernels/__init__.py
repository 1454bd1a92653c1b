"""The backend "triton": the Hebbian layer in Triton kernels, for CUDA and ROCm tensors.

Four launches a layer and step: prepare, forward, plasticity and apply; three of a first layer. A
rule is compiled into them. Where neurons also unlearn what others are for, a product of torch's
follows.
Nothing waits for the device, no allocation depends on data, and every sum has a fixed order. Loads
are widest where x and weight are both ``torch.channels_last``. Arguments are taken as valid:
``softhebb_fast.functional`` checks them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softhebb_fast.kernels import autotune, one_pass
from softhebb_fast.kernels.apply import apply
from softhebb_fast.kernels.epilogue import pool
from softhebb_fast.kernels.forward import forward, forward_pooled
from softhebb_fast.kernels.geometry import (
    Geometry,
    compact,
    conv2d_geometry,
    linear_geometry,
)
from softhebb_fast.kernels.operands import RuleArgs, check_dtype, rule_args, tiling
from softhebb_fast.kernels.plasticity import plasticity
from softhebb_fast.kernels.pooling import new_map, pooling
from softhebb_fast.options import RULE, Competition, Convolution, Epilogue, Rate, Rule
from softhebb_fast.precision import as_torch
from softhebb_fast.reference import HebbianOutput, step_
from softhebb_fast.reference.rules import lower, modulated, normalised

Learned = tuple[Tensor, Tensor | None, Tensor | None]

__all__ = [
    "block_forward",
    "block_step_",
    "block_update",
    "conv2d",
    "conv2d_step_",
    "linear",
    "linear_step_",
]


@torch.no_grad()
@as_torch("conv2d")
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    rule: Rule = RULE,
) -> HebbianOutput:
    """Convolution, activity and update of one batch ``x [B, C, H, W]``.

    float32, float16 or bfloat16.
    """
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    u, *rest = _conv2d(x, weight, bias, convolution, competition, rule, delta_w)
    return HebbianOutput(u, delta_w, *rest)


@torch.no_grad()
@as_torch("linear")
def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    competition: Competition,
    rule: Rule = RULE,
) -> HebbianOutput:
    """Matrix product, activity and update of one batch ``x [B, N]``."""
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    u, *rest = _linear(x, weight, bias, competition, rule, delta_w)
    return HebbianOutput(u, delta_w, *rest)


@torch.no_grad()
@as_torch("conv2d")
def conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
    rule: Rule = RULE,
) -> Learned:
    """``conv2d`` and ``reference.step_`` in one: u, delta_b and the statistic; changes ``weight``.

    The rates come from the norms before the step.
    """
    return _conv2d(x, weight, bias, convolution, competition, rule, None, rate)


@torch.no_grad()
@as_torch("linear")
def linear_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    competition: Competition,
    rule: Rule = RULE,
) -> Learned:
    """``linear`` and ``reference.step_`` in one, as ``conv2d_step_``."""
    return _linear(x, weight, bias, competition, rule, None, rate)


@torch.no_grad()
@as_torch("conv2d")
def block_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
) -> Tensor:
    """The epilogue of ``conv2d``'s u; u itself is not written where its neurons fit a tile."""
    check_dtype(x)
    x = compact(x)
    G = conv2d_geometry(x, weight, convolution)
    c = rule_args(competition, pre_triangle=convolution.pre_triangle)
    E = pooling(epilogue, G)
    if x.numel() == 0:
        return new_map(x, G, E.OY, E.OX)
    bias = None if bias is None else bias.contiguous()
    tiled = forward_pooled(x, weight, bias, G, c, E)
    if tiled is None:
        out, rest = forward(x, weight, bias, G, c, E)
    else:
        out, rest = tiled
    if rest is None:
        return out
    pool(rest, G)
    return rest.tensors.out


@torch.no_grad()
@as_torch("conv2d")
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
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    options = (convolution, competition, rule, delta_w)
    out, *rest = _conv2d(x, weight, bias, *options, epilogue=epilogue)
    return HebbianOutput(out, delta_w, *rest)


@torch.no_grad()
@as_torch("conv2d")
def block_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
    rule: Rule = RULE,
) -> Learned:
    """``conv2d_step_`` with the epilogue of u in the place of u."""
    return _conv2d(x, weight, bias, convolution, competition, rule, None, rate, epilogue)


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    rule: Rule,
    delta_w: Tensor | None,
    rate: Rate = Rate(0.0),  # noqa: B008
    epilogue: Epilogue | None = None,
) -> Learned:
    x = compact(x)
    G = conv2d_geometry(x, weight, convolution)
    options = {"pre_triangle": convolution.pre_triangle, "x_bound": convolution.x_bound}
    return _by_rule(x, weight, bias, G, competition, rule, options, delta_w, rate, epilogue)


def _linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    competition: Competition,
    rule: Rule,
    delta_w: Tensor | None,
    rate: Rate = Rate(0.0),  # noqa: B008
) -> Learned:
    x = compact(x)
    G, options = linear_geometry(x, weight), {"overwrite": True}
    if rule.modulator is not None:
        rule = rule._replace(modulator=rule.modulator[..., None, None])
    u, *rest = _by_rule(x, weight, bias, G, competition, rule, options, delta_w, rate)
    return u.flatten(1), *rest


def _by_rule(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    G: Geometry,
    competition: Competition,
    rule: Rule,
    options: dict[str, Any],
    delta_w: Tensor | None,
    rate: Rate,
    epilogue: Epilogue | None = None,
) -> Learned:
    """``_learn``; of a gain that is no diagonal the rest of the update too."""
    if rule.settles:
        raise ValueError(f"activity must be settled by the caller on {x.device}; got {rule[0]!r}")
    positions = x.shape[0] * G.pixels
    if rule.gain != "lower":
        c = rule_args(competition, rule, positions, **options)
        return _learn(x, weight, bias, G, c, delta_w, rate, epilogue)
    attraction = rule._replace(gain="none", normalise="none")
    c = rule_args(competition, attraction, positions, **options)
    d = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    out, *rest = _learn(x, weight, bias, G, c, d)
    u = out.float()
    a = modulated(u, rule)
    if positions:
        d = normalised(d - lower(a, u, weight.float(), G.GROUPS), a, rule, G.GROUPS)
    if delta_w is None:
        step_(weight, d, rate, competition.lebesgue_p)
    else:
        delta_w.copy_(d)
    return out if epilogue is None else epilogue.apply(out), *rest


@autotune.tuned
def _learn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    G: Geometry,
    c: RuleArgs,
    delta_w: Tensor | None,
    rate: Rate = Rate(0.0),  # noqa: B008
    epilogue: Epilogue | None = None,
) -> Learned:
    """u, or its epilogue, delta_b and the statistic; the update goes into ``delta_w`` or onto the
    weight."""
    check_dtype(x)
    E = None if epilogue is None else pooling(epilogue, G)
    bias = None if bias is None else bias.contiguous()
    delta_b = torch.empty_like(bias) if bias is not None and c.flags.learns_bias else None
    statistic = weight.new_empty(G.neurons, dtype=torch.float32) if c.counted else None
    if x.numel() == 0:
        for empty in (delta_w, delta_b, statistic):
            if empty is not None:
                empty.zero_()
        if delta_w is None and rate.unit_norm:
            step_(weight, torch.zeros_like(weight), rate, c.scalars.lebesgue_p)
        size = (G.OH, G.OW) if E is None else (E.OY, E.OX)
        return new_map(x, G, *size), delta_b, statistic
    config, rated = one_pass.fits(x, G, c, E), delta_w is None
    summed = delta_b is not None or c.counted
    if config is not None:
        out, update, rest = one_pass.one_pass(
            x, weight, bias, G, c, config, E, rated=rated, summed=summed
        )
    else:
        T = tiling(x, G, c)
        state, rest = forward(x, weight, bias, G, c, E, T, summed)
        update = plasticity(x, weight, state, G, c, T, rated, summed)
        out = state.pre.u
    positions = x.shape[0] * G.pixels
    apply(weight, bias, update, positions, G, c, delta_w, delta_b, statistic, rate, rest)
    return out if rest is None else rest.tensors.out, delta_b, statistic
