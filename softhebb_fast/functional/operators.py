"""The layers as functions: arguments checked, backend chosen."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from softhebb_fast import reference
from softhebb_fast.backends import resolve
from softhebb_fast.checks import (
    check_are_tensors,
    check_conv2d,
    check_epilogue,
    check_linear,
    check_writable,
    conv2d_size,
)
from softhebb_fast.functional.autocast import autocast_disabled
from softhebb_fast.functional.distributed import over
from softhebb_fast.functional.transforms import transforming
from softhebb_fast.options import (
    COMPETITION,
    CONVOLUTION,
    Competition,
    Convolution,
    Epilogue,
    Rate,
    conv2d_options,
)
from softhebb_fast.reference import SoftHebbOutput, Total


class Step(NamedTuple):
    """What a step in place gives: u as it was before, and the direction of the bias or None."""

    u: Tensor
    delta_b: Tensor | None


class BlockOutput(NamedTuple):
    """What ``softhebb_block`` gives; ``delta_w`` and ``delta_b`` are None where not asked for."""

    out: Tensor
    delta_w: Tensor | None = None
    delta_b: Tensor | None = None


def softhebb_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = CONVOLUTION.stride,
    padding: int | tuple[int, int] = CONVOLUTION.padding,
    dilation: int | tuple[int, int] = CONVOLUTION.dilation,
    groups: int = CONVOLUTION.groups,
    t_invert: float = COMPETITION.t_invert,
    wta: str = COMPETITION.wta,
    delta: float = COMPETITION.delta,
    rank: int = COMPETITION.rank,
    padding_mode: str = CONVOLUTION.padding_mode,
    pre_triangle: bool = CONVOLUTION.pre_triangle,
    x_bound: float | None = CONVOLUTION.x_bound,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
    process_group: dist.ProcessGroup | None = None,
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
        x_bound: what no |x| exceeds, if that is known. It spares CUDA's 16-bit factors the search
            for the largest; a wrong one lets them overflow.
        lebesgue_p: the product uses ``sign(W) |W|^(p - 1)``.
        tie_rule: who wins among channels with the very same u: ``"first"`` of them, as published,
            or ``"spread"``, another one at another position (by a hash of its index in the batch;
            see ``reference.winners``), so that identical filters share their wins.
        backend: ``"auto"``, ``"reference"``, ``"cpp"`` or ``"triton"``.
        process_group: of ``torch.distributed``. x is then this process's part of a batch, and
            delta_w and delta_b are those of the whole. D is added up over the processes before it
            is divided by its maximum, by the reference. All processes must call.

    Raises:
        ValueError: a shape, size or option that does not fit.
        TypeError: a dtype or device that does not fit.
        RuntimeError: a backend chosen by name that cannot run here.

    Source: Journé et al. 2023 (arXiv 2209.11883), equations 1 and 2.
    """
    convolution = Convolution(
        stride, padding, dilation, groups, padding_mode, pre_triangle, x_bound
    )
    competition = Competition(t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    options = _checked_conv2d(x, weight, bias, convolution, competition)
    with autocast_disabled(x.device):
        module, total = _summing(backend, x, competition, process_group)
        return module.conv2d(x, weight, bias, *options, **total)


def softhebb_conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    lr: float | Tensor,
    lr_power: float = 0.5,
    backend: str = "auto",
    **options: Any,
) -> Step:
    """``softhebb_conv2d`` and ``hebbian_step_`` in one: changes ``weight``, builds no graph.

    The rates are ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power``, from the norms before the step. An
    ``lr`` that is a tensor on the device of x is read when the step runs, so that a CUDA graph
    follows it. The bias is left alone. Options and errors as in ``softhebb_conv2d``.
    """
    options = _checked_conv2d(x, weight, bias, *conv2d_options(**options))
    check_writable(weight)
    with torch.no_grad(), autocast_disabled(x.device):
        module, rate = _module(backend, x, options[1]), Rate.of(lr, lr_power, x.device)
        return Step(*module.conv2d_step_(x, weight, bias, rate, *options))


def softhebb_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    **options: Any,
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
    t_invert: float = COMPETITION.t_invert,
    wta: str = COMPETITION.wta,
    delta: float = COMPETITION.delta,
    rank: int = COMPETITION.rank,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
    process_group: dist.ProcessGroup | None = None,
) -> SoftHebbOutput:
    """Multiply ``x`` by ``weight`` and compute the SoftHebb update of ``weight``.

    Shapes: x ``[..., N]``, weight ``[K, N]``, bias ``[K]``; u ``[..., K]``, delta_w as weight.
    Options and errors as in ``softhebb_conv2d``, but that ``"hard_anti"`` overwrites the neuron of
    rank ``rank`` with ``-delta`` even where it is the winner, as the published linear layer does.
    """
    given = Competition(t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    competition = _checked_linear(x, weight, bias, given)
    with autocast_disabled(x.device):
        module, total = _summing(backend, x, competition, process_group)
        out = module.linear(_rows(x), weight, bias, competition, **total)
    return out._replace(u=out.u.view(*x.shape[:-1], weight.shape[0]))


def softhebb_linear_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    lr: float | Tensor,
    lr_power: float = 0.5,
    backend: str = "auto",
    **options: Any,
) -> Step:
    """``softhebb_linear`` and ``hebbian_step_`` in one, as ``softhebb_conv2d_step_``."""
    competition = _checked_linear(x, weight, bias, Competition(**options))
    check_writable(weight)
    with torch.no_grad(), autocast_disabled(x.device):
        module, rate = _module(backend, x, competition), Rate.of(lr, lr_power, x.device)
        u, delta_b = module.linear_step_(_rows(x), weight, bias, rate, competition)
    return Step(u.view(*x.shape[:-1], weight.shape[0]), delta_b)


def softhebb_block(
    x: Tensor,
    weight: Tensor,
    epilogue: Epilogue,
    bias: Tensor | None = None,
    *,
    update: str | None = None,
    lr: float | Tensor | None = None,
    lr_power: float = 0.5,
    backend: str = "auto",
    **options: Any,
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
    options = _checked_conv2d(x, weight, bias, *conv2d_options(**options))
    check_epilogue(epilogue, conv2d_size(x, weight, options[0]))
    if update not in (None, "delta_w", "in_place"):
        raise ValueError(f"update must be None, 'delta_w' or 'in_place'; got {update!r}")
    if update == "in_place" and lr is None:
        raise ValueError("lr must be given for update='in_place'; got None")
    if update == "in_place":
        check_writable(weight)
    with torch.no_grad(), autocast_disabled(x.device):
        module = _module(backend, x, options[1])
        if update is None:
            return BlockOutput(module.block_forward(x, weight, bias, *options, epilogue))
        if update == "delta_w":
            return BlockOutput(*module.block_update(x, weight, bias, *options, epilogue))
        rate = Rate.of(lr, lr_power, x.device)
        out, delta_b = module.block_step_(x, weight, bias, rate, *options, epilogue)
        return BlockOutput(out, delta_b=delta_b)


def _checked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
) -> tuple[Convolution, Competition]:
    convolution = convolution.checked()
    check_conv2d(x, weight, bias, convolution)
    return convolution, competition.checked(weight.shape[0] // convolution.groups)


def _checked_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, competition: Competition
) -> Competition:
    check_linear(x, weight, bias)
    return competition.checked(weight.shape[0])


def _module(backend: str, x: Tensor, competition: Competition) -> ModuleType:
    if not torch.compiler.is_compiling() and transforming():
        return _by_reference(backend, "kernels cannot follow torch.func or forward-mode gradients")
    return resolve(backend, x.device, x.dtype, competition.tie_rule)


def _summing(
    backend: str, x: Tensor, competition: Competition, group: dist.ProcessGroup | None
) -> tuple[ModuleType, dict[str, Total]]:
    """A backend, and how it adds up over the processes of a group."""
    if group is None:
        return _module(backend, x, competition), {}
    return _by_reference(backend, "kernels cannot add up over processes"), {"total": over(group)}


def _by_reference(backend: str, why: str) -> ModuleType:
    if backend in ("auto", "reference"):
        return reference
    raise RuntimeError(f"backend={backend!r}: {why}. Use backend='auto' or 'reference'.")


def _rows(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
