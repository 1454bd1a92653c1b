"""The public functions: arguments checked, shapes documented, backend chosen."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast import reference
from softhebb_fast.backends import resolve
from softhebb_fast.checks import (
    check_are_tensors,
    check_competition,
    check_conv2d,
    check_linear,
    check_pre_activations,
    check_step,
    check_update,
    pair,
)
from softhebb_fast.reference import SoftHebbOutput

__all__ = [
    "CompetitionStatistics",
    "SoftHebbOutput",
    "competition_statistics",
    "hebbian_step_",
    "hebbian_update",
    "norm_dependent_rate",
    "soft_wta",
    "softhebb_conv1d",
    "softhebb_conv2d",
    "softhebb_linear",
]


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
    backend: str = "auto",
) -> SoftHebbOutput:
    """Convolve ``x`` and compute the SoftHebb update of ``weight``, which stays as it is.

    Shapes: x ``[B, C, H, W]``, weight ``[K, C / groups, R, S]``, bias ``[K]``;
    u ``[B, K, OH, OW]`` with ``OH = (H + 2 padding - dilation (R - 1) - 1) // stride + 1``,
    delta as weight. float64, float32, float16 or bfloat16, the same for all; sums are taken in
    float32 at least.

    ``u`` is differentiable in x, weight and bias as a convolution is; ``delta`` is a constant.

    Args:
        t_invert: inverse temperature of the softmax; hard competitions ignore it.
        wta: ``"soft_anti"`` (softmax, losers negated; the published conv nets), ``"soft"``,
            ``"hard"`` (the winner gets 1) or ``"hard_anti"`` (the winner gets 1 and the neuron of
            rank ``rank`` gets ``-delta``). Exact ties go to the first channel. Channels compete
            inside their group.
        delta, rank: strength and place (1 is the winner) of the unlearning in ``"hard_anti"``.
        padding_mode: ``"reflect"``, ``"zeros"``, ``"replicate"`` or ``"circular"``.
        pre_triangle: replace u by ``relu(u - mean over channels)`` before the competition.
        lebesgue_p: the product uses ``sign(W) |W|^(p - 1)``.
        backend: ``"auto"``, ``"reference"``, ``"cpp"`` or ``"triton"``.

    Raises:
        ValueError: a shape, size or option that does not fit.
        TypeError: a dtype or device that does not fit.
        RuntimeError: a backend chosen by name that cannot run here.

    Source: Journé et al. 2023 (arXiv 2209.11883), equations 1 and 2.
    """
    stride, padding = pair(stride, "stride"), pair(padding, "padding", least=0)
    dilation = pair(dilation, "dilation")
    check_conv2d(x, weight, bias, stride, padding, dilation, groups, padding_mode)
    check_competition(weight.shape[0] // groups, t_invert, wta, rank, lebesgue_p, delta)
    with _as_called(x.device):
        return resolve(backend, x.device).conv2d(
            x,
            weight,
            bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            t_invert=float(t_invert),
            wta=wta,
            delta=float(delta),
            rank=rank,
            padding_mode=padding_mode,
            pre_triangle=pre_triangle,
            lebesgue_p=float(lebesgue_p),
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
    u, delta, bias_delta = softhebb_conv2d(
        x.unsqueeze(2),
        weight.unsqueeze(2),
        bias,
        stride=(1, stride),
        padding=(0, padding),
        dilation=(1, dilation),
        **options,
    )
    return SoftHebbOutput(u.squeeze(2), delta.squeeze(2), bias_delta)


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
    backend: str = "auto",
) -> SoftHebbOutput:
    """Multiply ``x`` by ``weight`` and compute the SoftHebb update of ``weight``.

    Shapes: x ``[..., N]``, weight ``[K, N]``, bias ``[K]``; u ``[..., K]``, delta as weight.
    Options and errors as in ``softhebb_conv2d``, but that ``"hard_anti"`` overwrites the neuron of
    rank ``rank`` with ``-delta`` even where it is the winner, as the published linear layer does.
    """
    check_linear(x, weight, bias)
    check_competition(weight.shape[0], t_invert, wta, rank, lebesgue_p, delta)
    flat = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    with _as_called(x.device):
        out = resolve(backend, x.device).linear(
            flat,
            weight,
            bias,
            t_invert=float(t_invert),
            wta=wta,
            delta=float(delta),
            rank=rank,
            lebesgue_p=float(lebesgue_p),
        )
    return out._replace(u=out.u.view(*x.shape[:-1], weight.shape[0]))


def soft_wta(
    u: Tensor,
    t_invert: float = 12.0,
    wta: str = "soft_anti",
    *,
    groups: int = 1,
    delta: float = 2.0,
    rank: int = 3,
    overwrite: bool = False,
) -> Tensor:
    """The competition variable y of pre-activations ``u [B, K]`` or ``[B, K, ...]``, same shape.

    Neurons lie in dimension 1 and compete at every position, inside their group.
    ``overwrite`` is the linear layer's form of ``"hard_anti"``. Errors as in ``softhebb_conv2d``.
    """
    check_pre_activations(u, groups)
    check_competition(u.shape[1] // groups, t_invert, wta, rank, delta=delta)
    return reference.soft_wta(
        reference.accumulated(u),
        t_invert,
        wta,
        groups=groups,
        delta=delta,
        rank=rank,
        overwrite=overwrite,
    ).to(u.dtype)


def hebbian_update(
    x: Tensor,
    y: Tensor,
    u: Tensor,
    weight: Tensor,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    padding_mode: str = "reflect",
) -> Tensor:
    """The normalised ascent direction of ``weight`` for any competition variable ``y``.

    Shapes: x ``[B, C, H, W]``, y and u ``[B, K, OH, OW]``, weight ``[K, C / groups, R, S]``; or
    x ``[B, N]``, y and u ``[B, K]``, weight ``[K, N]``. Returns a tensor like ``weight``. With
    ``y`` a one-hot target this is the supervised Hebbian rule. Errors as in ``softhebb_conv2d``.
    """
    stride, padding = pair(stride, "stride"), pair(padding, "padding", least=0)
    dilation = pair(dilation, "dilation")
    check_update(x, y, u, weight, stride, padding, dilation, groups, padding_mode)
    x, y, u, w = (reference.accumulated(t) for t in (x, y, u, weight))
    padded = reference.pad(x, padding, padding_mode) if w.dim() == 4 else x
    with _as_called(w.device):
        d = reference.hebbian_update(
            padded, y, u, w, stride=stride, dilation=dilation, groups=groups
        )
    return d.to(weight.dtype)


def norm_dependent_rate(
    weight: Tensor, lr: float, lr_power: float = 0.5, lebesgue_p: float = 2.0
) -> Tensor:
    """The rate ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power`` of every neuron k, ``[K]``.

    Shape: weight ``[K, ...]``. float64 for a float64 weight, else float32. A neuron of norm 1 is
    all but frozen. Errors as in ``softhebb_conv2d``. Source: Journé et al. 2023 (arXiv 2209.11883).
    """
    check_step(weight, None, lebesgue_p)
    return reference.norm_dependent_rate(weight, lr, lr_power, lebesgue_p)


def hebbian_step_(
    weight: Tensor, delta: Tensor, lr: float, lr_power: float = 0.5, lebesgue_p: float = 2.0
) -> Tensor:
    """``W += norm_dependent_rate(W) * delta`` in place; returns ``weight``. delta as weight."""
    check_step(weight, delta, lebesgue_p)
    return reference.hebbian_step_(weight, delta, lr, lr_power, lebesgue_p)


class CompetitionStatistics(NamedTuple):
    """How a batch was shared out among the neurons.

    Attributes:
        share: every neuron's share of the positions, ``[K]``, summing to 1 in each group: of the
            softmax for soft competitions, of the wins for hard ones.
        winner_probability: mean softmax probability of the winner; 1 for hard competitions.
    """

    share: Tensor
    winner_probability: float


@torch.no_grad()
def competition_statistics(
    u: Tensor, t_invert: float = 12.0, wta: str = "soft_anti", *, groups: int = 1
) -> CompetitionStatistics:
    """Winner statistics of pre-activations ``u [B, K]`` or ``[B, K, ...]``; NaN without any."""
    check_pre_activations(u, groups)
    check_competition(u.shape[1] // groups, t_invert, wta, 1)
    soft = wta.startswith("soft")
    p = reference.soft_wta(
        reference.accumulated(u), t_invert, "soft" if soft else "hard", groups=groups
    )
    share = p.transpose(0, 1).flatten(1).mean(dim=1)
    top = p.unflatten(1, (groups, -1)).amax(dim=2)
    return CompetitionStatistics(share, float(top.mean()))


def _as_called(device: torch.device) -> AbstractContextManager:
    """Autocast off: the arguments' dtypes decide, and float32 is summed in float32."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()
