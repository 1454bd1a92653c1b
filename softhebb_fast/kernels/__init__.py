"""The backend "triton": the SoftHebb layer in Triton kernels, for CUDA and ROCm tensors.

Four launches a layer and step: prepare, forward, plasticity and apply; three of a first layer.
Nothing waits for the device, no allocation depends on data, and every sum has a fixed order. Loads
are widest where x and weight are both ``torch.channels_last``. Arguments are taken as valid:
``softhebb_fast.functional`` checks them.
"""

from __future__ import annotations

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
from softhebb_fast.kernels.operands import (
    CompetitionArgs,
    check_dtype,
    competition_args,
    tiling,
)
from softhebb_fast.kernels.plasticity import plasticity
from softhebb_fast.kernels.pooling import new_map, pooling
from softhebb_fast.options import RULE, Competition, Convolution, Epilogue, Rate, Rule
from softhebb_fast.precision import as_torch
from softhebb_fast.reference import HebbianOutput

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
    """Convolution, competition and update of one batch ``x [B, C, H, W]``.

    float32, float16 or bfloat16.
    """
    _check_rule(rule)
    x, G, c = _conv2d(x, weight, convolution, competition)
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    u, delta_b = _learn(x, weight, bias, G, c, delta_w)
    return HebbianOutput(u, delta_w, delta_b, None)


@torch.no_grad()
@as_torch("linear")
def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    competition: Competition,
    rule: Rule = RULE,
) -> HebbianOutput:
    """Matrix product, competition and update of one batch ``x [B, N]``."""
    _check_rule(rule)
    x, G, c = _linear(x, weight, competition)
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    u, delta_b = _learn(x, weight, bias, G, c, delta_w)
    return HebbianOutput(u.flatten(1), delta_w, delta_b, None)


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
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``conv2d`` and ``reference.step_`` in one: u, delta_b and the statistic; changes ``weight``.

    The rates come from the norms before the step.
    """
    _check_rule(rule, rate)
    x, G, c = _conv2d(x, weight, convolution, competition)
    return *_learn(x, weight, bias, G, c, None, rate), None


@torch.no_grad()
@as_torch("linear")
def linear_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    competition: Competition,
    rule: Rule = RULE,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``linear`` and ``reference.step_`` in one, as ``conv2d_step_``."""
    _check_rule(rule, rate)
    x, G, c = _linear(x, weight, competition)
    u, delta_b = _learn(x, weight, bias, G, c, None, rate)
    return u.flatten(1), delta_b, None


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
    x, G, c = _conv2d(x, weight, convolution, competition)
    E = pooling(epilogue, G)
    if x.numel() == 0:
        return new_map(x, G, E.OY, E.OX)
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
    """``conv2d`` with the epilogue of u instead of u."""
    _check_rule(rule)
    x, G, c = _conv2d(x, weight, convolution, competition)
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    out, delta_b = _learn(x, weight, bias, G, c, delta_w, epilogue=epilogue)
    return HebbianOutput(out, delta_w, delta_b, None)


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
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``conv2d_step_`` with the epilogue of u instead of u."""
    _check_rule(rule, rate)
    x, G, c = _conv2d(x, weight, convolution, competition)
    return *_learn(x, weight, bias, G, c, None, rate, epilogue), None


def _check_rule(rule: Rule, rate: Rate | None = None) -> None:
    if rule != RULE or not (rate is None or rate.plain):
        raise NotImplementedError("the Triton kernels compute the rule 'softhebb' only")


def _conv2d(
    x: Tensor, weight: Tensor, convolution: Convolution, competition: Competition
) -> tuple[Tensor, Geometry, CompetitionArgs]:
    c = competition_args(competition, convolution.pre_triangle, x_bound=convolution.x_bound)
    x = compact(x)
    return x, conv2d_geometry(x, weight, convolution), c


def _linear(
    x: Tensor, weight: Tensor, competition: Competition
) -> tuple[Tensor, Geometry, CompetitionArgs]:
    x = compact(x)
    return x, linear_geometry(x, weight), competition_args(competition, overwrite=True)


@autotune.tuned
def _learn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    G: Geometry,
    c: CompetitionArgs,
    delta_w: Tensor | None,
    rate: Rate = Rate(0.0),  # noqa: B008
    epilogue: Epilogue | None = None,
) -> tuple[Tensor, Tensor | None]:
    """u, or its epilogue, and delta_b; the update goes into ``delta_w`` or onto the weight."""
    check_dtype(x)
    E = None if epilogue is None else pooling(epilogue, G)
    delta_b = None if bias is None or not c.flags.SOFT else torch.empty_like(bias)
    if x.numel() == 0:
        for empty in (delta_w, delta_b):
            if empty is not None:
                empty.zero_()
        size = (G.OH, G.OW) if E is None else (E.OY, E.OX)
        return new_map(x, G, *size), delta_b
    config, rated = one_pass.fits(x, G, c), delta_w is None
    if config is not None:
        out, update, rest = one_pass.one_pass(x, weight, bias, G, c, config, E, rated)
    else:
        T, biased = tiling(x, G), delta_b is not None
        state, rest = forward(x, weight, bias, G, c, E, T)
        update = plasticity(x, weight, state, G, c, T, rated, biased)
        out = state.pre.u
    positions = x.shape[0] * G.pixels
    apply(weight, bias, update, positions, G, c, delta_w, delta_b, rate, rest)
    return out if rest is None else rest.tensors.out, delta_b
