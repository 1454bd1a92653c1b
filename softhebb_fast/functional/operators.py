"""The layers as functions: arguments checked, backend chosen."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.backends import resolve
from softhebb_fast.checks import (
    check_are_tensors,
    check_competition,
    check_conv2d,
    check_epilogue,
    check_linear,
    output_size,
    pair,
)
from softhebb_fast.epilogue import Epilogue
from softhebb_fast.functional.autocast import autocast_disabled
from softhebb_fast.reference import SoftHebbOutput


class Step(NamedTuple):
    """What a step in place gives: u as it was before, and the direction of the bias or None."""

    u: Tensor
    delta_b: Tensor | None


class BlockOutput(NamedTuple):
    """What ``softhebb_block`` gives; ``delta_w`` and ``delta_b`` are None where not asked for."""

    out: Tensor
    delta_w: Tensor | None
    delta_b: Tensor | None


def softhebb_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    t_invert: float = 12.0,
    wta: str = "soft_anti",
    delta: float = 2.0,
    rank: int = 3,
    padding_mode: str = "reflect",
    pre_triangle: bool = False,
    lebesgue_p: float = 2.0,
    tie_rule: str = "first",
    backend: str = "auto",
) -> SoftHebbOutput:
    """Convolve ``x`` and compute the SoftHebb update of ``weight``, which stays as it is.

    Shapes: x ``[B, C, H, W]``, weight ``[K, C / groups, R, S]``, bias ``[K]``;
    u ``[B, K, OH, OW]`` with ``OH = (H + 2 padding - dilation (R - 1) - 1) // stride + 1``,
    delta_w as weight. float64, float32, float16 or bfloat16, the same for all; sums are taken in
    float32 at least.

    ``u`` is differentiable in x, weight and bias as a convolution is; ``delta_w`` is a constant.

    Args:
        t_invert: inverse temperature of the softmax; hard competitions ignore it.
        wta: ``"soft_anti"`` (softmax, losers negated; the published conv nets), ``"soft"``,
            ``"hard"`` (the winner gets 1) or ``"hard_anti"`` (the winner gets 1 and the neuron of
            rank ``rank`` gets ``-delta``). Channels compete inside their group.
        delta, rank: strength and place (1 is the winner) of the unlearning in ``"hard_anti"``.
        padding_mode: ``"reflect"``, ``"zeros"``, ``"replicate"`` or ``"circular"``.
        pre_triangle: replace u by ``relu(u - mean over channels)`` before the competition.
        lebesgue_p: the product uses ``sign(W) |W|^(p - 1)``.
        tie_rule: who wins among channels with the very same u: ``"first"`` of them, as published,
            or ``"spread"``, another one at another position (by a hash of its index in the batch;
            see ``reference.winners``), so that identical filters share their wins.
        backend: ``"auto"``, ``"reference"``, ``"cpp"`` or ``"triton"``.

    Raises:
        ValueError: a shape, size or option that does not fit.
        TypeError: a dtype or device that does not fit.
        RuntimeError: a backend chosen by name that cannot run here.

    Source: Journé et al. 2023 (arXiv 2209.11883), equations 1 and 2.
    """
    options = _conv2d_options(
        x,
        weight,
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        t_invert=t_invert,
        wta=wta,
        delta=delta,
        rank=rank,
        padding_mode=padding_mode,
        pre_triangle=pre_triangle,
        lebesgue_p=lebesgue_p,
        tie_rule=tie_rule,
    )
    with autocast_disabled(x.device):
        return _module(backend, x, options).conv2d(x, weight, bias, **options)


def softhebb_conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    lr: float,
    lr_power: float = 0.5,
    backend: str = "auto",
    **options,
) -> Step:
    """``softhebb_conv2d`` and ``hebbian_step_`` in one: changes ``weight``, builds no graph.

    The rates are ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power``, from the norms before the step. The
    bias is left alone. Options and errors as in ``softhebb_conv2d``.
    """
    options = _conv2d_options(x, weight, bias, **options)
    with torch.no_grad(), autocast_disabled(x.device):
        module = _module(backend, x, options)
        return Step(
            *module.conv2d_step_(x, weight, bias, lr=float(lr), lr_power=float(lr_power), **options)
        )


def softhebb_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    **options,
) -> SoftHebbOutput:
    """``softhebb_conv2d`` on ``x [B, C, L]`` and ``weight [K, C / groups, S]``.

    The options are those of ``softhebb_conv2d``, and so are the errors.
    """
    check_are_tensors(x=x, weight=weight)
    for name, tensor in (("x", x), ("weight", weight)):
        if tensor.dim() != 3:
            raise ValueError(f"{name} must have 3 dimensions; got {tuple(tensor.shape)}")
    u, delta_w, delta_b = softhebb_conv2d(
        x.unsqueeze(2),
        weight.unsqueeze(2),
        bias,
        stride=(1, stride),
        padding=(0, padding),
        dilation=(1, dilation),
        **options,
    )
    return SoftHebbOutput(u.squeeze(2), delta_w.squeeze(2), delta_b)


def softhebb_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    t_invert: float = 12.0,
    wta: str = "soft_anti",
    delta: float = 2.0,
    rank: int = 3,
    lebesgue_p: float = 2.0,
    tie_rule: str = "first",
    backend: str = "auto",
) -> SoftHebbOutput:
    """Multiply ``x`` by ``weight`` and compute the SoftHebb update of ``weight``.

    Shapes: x ``[..., N]``, weight ``[K, N]``, bias ``[K]``; u ``[..., K]``, delta_w as weight.
    Options and errors as in ``softhebb_conv2d``, but that ``"hard_anti"`` overwrites the neuron of
    rank ``rank`` with ``-delta`` even where it is the winner, as the published linear layer does.
    """
    options = _linear_options(
        x,
        weight,
        bias,
        t_invert=t_invert,
        wta=wta,
        delta=delta,
        rank=rank,
        lebesgue_p=lebesgue_p,
        tie_rule=tie_rule,
    )
    with autocast_disabled(x.device):
        out = _module(backend, x, options).linear(_rows(x), weight, bias, **options)
    return out._replace(u=out.u.view(*x.shape[:-1], weight.shape[0]))


def softhebb_linear_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    lr: float,
    lr_power: float = 0.5,
    backend: str = "auto",
    **options,
) -> Step:
    """``softhebb_linear`` and ``hebbian_step_`` in one, as ``softhebb_conv2d_step_``."""
    options = _linear_options(x, weight, bias, **options)
    with torch.no_grad(), autocast_disabled(x.device):
        u, delta_b = _module(backend, x, options).linear_step_(
            _rows(x), weight, bias, lr=float(lr), lr_power=float(lr_power), **options
        )
    return Step(u.view(*x.shape[:-1], weight.shape[0]), delta_b)


def softhebb_block(
    x: Tensor,
    weight: Tensor,
    epilogue: Epilogue,
    bias: Tensor | None = None,
    *,
    update: str | None = None,
    lr: float | None = None,
    lr_power: float = 0.5,
    backend: str = "auto",
    **options,
) -> BlockOutput:
    """Convolution, activation and pooling in one pass, learning or not; builds no graph.

    Gives what ``epilogue.apply`` makes of the u of ``softhebb_conv2d``, ``[B, K, PH, PW]``; a
    fused backend never stores u.

    Args:
        epilogue: activation and pooling.
        update: None (evaluation), ``"delta_w"`` (also return the direction) or ``"in_place"``
            (also step, as ``softhebb_conv2d_step_`` does).
        lr, lr_power: for ``"in_place"``.
        options: those of ``softhebb_conv2d``.

    Raises as ``softhebb_conv2d``, and ValueError for an unknown ``update``, a missing ``lr`` or a
    pooled map without a position.
    """
    options = _conv2d_options(x, weight, bias, **options)
    size = tuple(x.shape[2:]), tuple(weight.shape[2:])
    size = output_size(*size, options["stride"], options["padding"], options["dilation"])
    check_epilogue(epilogue, size)
    if update not in (None, "delta_w", "in_place"):
        raise ValueError(f"update must be None, 'delta_w' or 'in_place'; got {update!r}")
    if update == "in_place" and lr is None:
        raise ValueError("lr must be given for update='in_place'; got None")
    with torch.no_grad(), autocast_disabled(x.device):
        module = _module(backend, x, options)
        if update is None:
            return BlockOutput(
                module.block_forward(x, weight, bias, epilogue, **options), None, None
            )
        if update == "delta_w":
            return BlockOutput(*module.block_update(x, weight, bias, epilogue, **options))
        rates = {"lr": float(lr), "lr_power": float(lr_power)}
        out, delta_b = module.block_step_(x, weight, bias, epilogue, **rates, **options)
        return BlockOutput(out, None, delta_b)


def _conv2d_options(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    t_invert: float = 12.0,
    wta: str = "soft_anti",
    delta: float = 2.0,
    rank: int = 3,
    padding_mode: str = "reflect",
    pre_triangle: bool = False,
    lebesgue_p: float = 2.0,
    tie_rule: str = "first",
) -> dict:
    """The options of a convolution, checked and in the form that backends take."""
    stride, padding = pair(stride, "stride"), pair(padding, "padding", least=0)
    dilation = pair(dilation, "dilation")
    check_conv2d(x, weight, bias, stride, padding, dilation, groups, padding_mode)
    check_competition(weight.shape[0] // groups, t_invert, wta, rank, lebesgue_p, delta, tie_rule)
    return {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "t_invert": float(t_invert),
        "wta": wta,
        "delta": float(delta),
        "rank": rank,
        "padding_mode": padding_mode,
        "pre_triangle": pre_triangle,
        "lebesgue_p": float(lebesgue_p),
        "tie_rule": tie_rule,
    }


def _linear_options(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    t_invert: float = 12.0,
    wta: str = "soft_anti",
    delta: float = 2.0,
    rank: int = 3,
    lebesgue_p: float = 2.0,
    tie_rule: str = "first",
) -> dict:
    """The options of a linear layer, checked and in the form that backends take."""
    check_linear(x, weight, bias)
    check_competition(weight.shape[0], t_invert, wta, rank, lebesgue_p, delta, tie_rule)
    return {
        "t_invert": float(t_invert),
        "wta": wta,
        "delta": float(delta),
        "rank": rank,
        "lebesgue_p": float(lebesgue_p),
        "tie_rule": tie_rule,
    }


def _module(backend: str, x: Tensor, options: dict) -> ModuleType:
    return resolve(backend, x.device, x.dtype, options["tie_rule"])


def _rows(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
