"""The backend "triton": the SoftHebb layer in Triton kernels, for CUDA and ROCm tensors.

Four launches a layer and step: counters are cleared, forward, plasticity and apply; three of a
first layer. Nothing waits for the device, no allocation depends on data, and every sum has a fixed
order. Loads are widest where x and weight are both ``torch.channels_last``. Arguments are taken as
valid: ``softhebb_fast.functional`` checks them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softhebb_fast.epilogue import Epilogue
from softhebb_fast.kernels import autotune, one_pass
from softhebb_fast.kernels.apply import apply
from softhebb_fast.kernels.epilogue import pool
from softhebb_fast.kernels.forward import forward, forward_pooled
from softhebb_fast.kernels.geometry import Geometry, conv2d_geometry, linear_geometry
from softhebb_fast.kernels.operands import Rule, check_dtype, tiling
from softhebb_fast.kernels.plasticity import plasticity
from softhebb_fast.kernels.pooling import new_map, pooling
from softhebb_fast.precision import as_torch
from softhebb_fast.reference import SoftHebbOutput

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
def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, **options) -> SoftHebbOutput:
    """Convolution, competition and update of one batch ``x [B, C, H, W]``.

    float32, float16 or bfloat16. ``options`` are the keyword arguments of ``reference.conv2d``,
    all of them.
    """
    G, rule = _conv2d(x, weight, **options)
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    u, delta_b = _learn(x, weight, bias, G, rule, delta_w)
    return SoftHebbOutput(u, delta_w, delta_b)


@torch.no_grad()
@as_torch("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None, **options) -> SoftHebbOutput:
    """Matrix product, competition and update of one batch ``x [B, N]``.

    ``options`` are the keyword arguments of ``reference.linear``, all of them.
    """
    rule = Rule(**options, overwrite=True)
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    u, delta_b = _learn(x, weight, bias, linear_geometry(x, weight), rule, delta_w)
    return SoftHebbOutput(u.flatten(1), delta_w, delta_b)


@torch.no_grad()
@as_torch("conv2d")
def conv2d_step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, lr: float, lr_power: float, **options
) -> tuple[Tensor, Tensor | None]:
    """``conv2d`` and ``reference.hebbian_step_`` in one: changes ``weight``.

    Gives u and delta_b. The rates come from the norms before the step; ``options`` are those
    of ``conv2d``.
    """
    G, rule = _conv2d(x, weight, **options)
    return _learn(x, weight, bias, G, rule, None, lr, lr_power)


@torch.no_grad()
@as_torch("linear")
def linear_step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, lr: float, lr_power: float, **options
) -> tuple[Tensor, Tensor | None]:
    """``linear`` and ``reference.hebbian_step_`` in one, as ``conv2d_step_``."""
    rule = Rule(**options, overwrite=True)
    u, delta_b = _learn(x, weight, bias, linear_geometry(x, weight), rule, None, lr, lr_power)
    return u.flatten(1), delta_b


@torch.no_grad()
@as_torch("conv2d")
def block_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, epilogue: Epilogue, **options
) -> Tensor:
    """The epilogue of ``conv2d``'s u; u itself is not written where its neurons fit a tile."""
    check_dtype(x)
    G, rule = _conv2d(x, weight, **options)
    E = pooling(epilogue, G)
    if x.numel() == 0:
        return new_map(x, G, E.OY, E.OX)
    tiled = forward_pooled(x, weight, bias, G, rule, E)
    if tiled is None:
        out, rest = forward(x, weight, bias, G, rule, E)
    else:
        out, rest = tiled
    if rest is None:
        return out
    pool(rest, G)
    return rest.out


@torch.no_grad()
@as_torch("conv2d")
def block_update(
    x: Tensor, weight: Tensor, bias: Tensor | None, epilogue: Epilogue, **options
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``conv2d`` with the epilogue of u instead of u."""
    G, rule = _conv2d(x, weight, **options)
    delta_w = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    out, delta_b = _learn(x, weight, bias, G, rule, delta_w, epilogue=epilogue)
    return out, delta_w, delta_b


@torch.no_grad()
@as_torch("conv2d")
def block_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    epilogue: Epilogue,
    *,
    lr: float,
    lr_power: float,
    **options,
) -> tuple[Tensor, Tensor | None]:
    """``conv2d_step_`` with the epilogue of u instead of u."""
    G, rule = _conv2d(x, weight, **options)
    return _learn(x, weight, bias, G, rule, None, lr, lr_power, epilogue)


def _conv2d(
    x: Tensor,
    weight: Tensor,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    padding_mode: str,
    **rule,
) -> tuple[Geometry, Rule]:
    return (
        conv2d_geometry(x, weight, stride, padding, dilation, groups, padding_mode),
        Rule(**rule),
    )


@autotune.tuned
def _learn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    G: Geometry,
    rule: Rule,
    delta_w: Tensor | None,
    lr: float = 0.0,
    lr_power: float = 0.5,
    epilogue: Epilogue | None = None,
) -> tuple[Tensor, Tensor | None]:
    """u, or its epilogue, and delta_b; the update goes into ``delta_w`` or onto the weight."""
    check_dtype(x)
    E = None if epilogue is None else pooling(epilogue, G)
    delta_b = None if bias is None or rule.hard else torch.empty_like(bias)
    if x.numel() == 0:
        for empty in (delta_w, delta_b):
            if empty is not None:
                empty.zero_()
        size = (G.OH, G.OW) if E is None else (E.OY, E.OX)
        return new_map(x, G, *size), delta_b
    config, rated = one_pass.fits(x, G, rule), delta_w is None
    if config is not None:
        out, update, rest = one_pass.one_pass(x, weight, bias, G, rule, config, E, rated)
    else:
        T, biased = tiling(x, G), delta_b is not None
        state, rest = forward(x, weight, bias, G, rule, E, T)
        update = plasticity(x, weight, state, G, rule, T, rated, biased)
        out = state.u
    positions = x.shape[0] * G.pixels
    apply(weight, bias, update, positions, G, rule, delta_w, delta_b, lr, lr_power, rest)
    return out if rest is None else rest.out, delta_b
