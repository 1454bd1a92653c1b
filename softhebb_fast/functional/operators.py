"""The layers as functions: arguments checked, backend chosen."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from softhebb_fast.checks import (
    check_are_tensors,
    check_linear,
    check_writable,
    checked_conv2d,
    checked_epilogue,
    conv2d_size,
)
from softhebb_fast.functional.autocast import autocast_disabled
from softhebb_fast.functional.learning import check_update, chosen
from softhebb_fast.functional.parts import learned
from softhebb_fast.options import (
    COMPETITION,
    CONVOLUTION,
    RULE,
    Competition,
    Convolution,
    Epilogue,
    Rate,
    single,
)
from softhebb_fast.reference import SoftHebbOutput


class Step(NamedTuple):
    """What a step in place gives: ``u`` as it was before, and ``delta_b``, the bias's direction, or
    None."""

    u: Tensor
    delta_b: Tensor | None


class BlockOutput(NamedTuple):
    """What ``softhebb_block`` gives: the map ``out``, and ``delta_w`` and ``delta_b``, None where
    not asked for."""

    out: Tensor
    delta_w: Tensor | None = None
    delta_b: Tensor | None = None


def softhebb_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = CONVOLUTION.stride,
    padding: int | tuple[int, int] | str = CONVOLUTION.padding,
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

    Shapes: x ``[B, C, H, W]``, or ``[C, H, W]`` for a batch of one whose u is ``[K, OH, OW]``;
    weight ``[K, C / groups, R, S]``, bias ``[K]``; u ``[B, K, OH, OW]`` with
    ``OH = (H + 2 padding - dilation (R - 1) - 1) // stride + 1``, delta_w as weight.
    float64, float32, float16 or bfloat16, the same for all; sums are taken in float32 at least.

    ``u`` is differentiable in x, weight and bias as a convolution is; ``delta_w`` is a constant.

    Args:
        stride, padding, dilation: ints or pairs, of rows and columns. ``"valid"`` is no padding;
            ``"same"`` gives u the size of x at stride 1, with the larger half after x.
        groups: channels and neurons are split into so many groups.
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
            is divided by its maximum, 16-bit factors are taken to float32 for it. All processes
            must call.

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
    batch, *options = _checked_conv2d(x, weight, bias, convolution, competition)
    with autocast_disabled(x.device):
        layer = chosen(backend, x, competition, process_group is not None).conv2d
        u, delta_w, delta_b, _ = learned(layer, batch, weight, bias, options, RULE, process_group)
    out = SoftHebbOutput(u, delta_w, delta_b)
    return out if x.dim() == 4 else out._replace(u=out.u.squeeze(0))


def softhebb_conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    lr: float | Tensor,
    lr_power: float = 0.5,
    stride: int | tuple[int, int] = CONVOLUTION.stride,
    padding: int | tuple[int, int] | str = CONVOLUTION.padding,
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
) -> Step:
    """``softhebb_conv2d`` and ``hebbian_step_`` in one: changes ``weight``, builds no graph.

    The rates are ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power``, from the norms before the step. An
    ``lr`` that is a tensor on the device of x is read when the step runs, so that a CUDA graph
    follows it. The bias is left alone. Options and errors as in ``softhebb_conv2d``.

    All other arguments are those of ``softhebb_conv2d``: ``bias``, ``stride``, ``padding``,
    ``dilation``, ``groups``, ``t_invert``, ``wta``, ``delta``, ``rank``, ``padding_mode``,
    ``pre_triangle``, ``x_bound``, ``lebesgue_p``, ``tie_rule``, ``backend``.
    """
    convolution = Convolution(
        stride, padding, dilation, groups, padding_mode, pre_triangle, x_bound
    )
    competition = Competition(t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    batch, *options = _checked_conv2d(x, weight, bias, convolution, competition)
    check_writable(weight)
    with torch.no_grad(), autocast_disabled(x.device):
        module, rate = chosen(backend, x, competition), Rate.of(lr, lr_power, x.device)
        u, delta_b, _ = module.conv2d_step_(batch, weight, bias, rate, *options)
    step = Step(u, delta_b)
    return step if x.dim() == 4 else step._replace(u=step.u.squeeze(0))


def softhebb_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] | str = 0,
    dilation: int | tuple[int] = 1,
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
    """``softhebb_conv2d`` on ``x [B, C, L]`` or ``[C, L]`` and ``weight [K, C / groups, S]``.

    The options are those of ``softhebb_conv2d``, and so are the errors.

    All other arguments are those of ``softhebb_conv2d``: ``bias``, ``stride``, ``padding``,
    ``dilation``, ``groups``, ``t_invert``, ``wta``, ``delta``, ``rank``, ``padding_mode``,
    ``pre_triangle``, ``x_bound``, ``lebesgue_p``, ``tie_rule``, ``backend``,
    ``process_group``.
    """
    check_are_tensors(x=x, weight=weight)
    if x.dim() not in (2, 3):
        raise ValueError(f"x must have 3 dimensions, or 2 without a batch; got {tuple(x.shape)}")
    if weight.dim() != 3:
        raise ValueError(f"weight must have 3 dimensions; got {tuple(weight.shape)}")
    u, delta_w, delta_b = softhebb_conv2d(
        x.unsqueeze(-2),
        weight.unsqueeze(-2),
        bias,
        stride=(1, single(stride, "stride")),
        padding=padding if isinstance(padding, str) else (0, single(padding, "padding")),
        dilation=(1, single(dilation, "dilation")),
        groups=groups,
        t_invert=t_invert,
        wta=wta,
        delta=delta,
        rank=rank,
        padding_mode=padding_mode,
        pre_triangle=pre_triangle,
        x_bound=x_bound,
        lebesgue_p=lebesgue_p,
        tie_rule=tie_rule,
        backend=backend,
        process_group=process_group,
    )
    return SoftHebbOutput(u.squeeze(-2), delta_w.squeeze(-2), delta_b)


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

    Shapes: x ``[..., N]`` or ``[N]``, weight ``[K, N]``, bias ``[K]``; u ``[..., K]``, delta_w as
    weight. ``t_invert``, ``wta``, ``delta``, ``rank``, ``lebesgue_p``, ``tie_rule``, ``backend``,
    ``process_group`` and errors as in ``softhebb_conv2d``, but that ``"hard_anti"`` overwrites the
    neuron of rank ``rank`` with ``-delta`` even where it is the winner, as the published linear
    layer does.
    """
    given = Competition(t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    competition = _checked_linear(x, weight, bias, given)
    with autocast_disabled(x.device):
        layer = chosen(backend, x, competition, process_group is not None).linear
        given = _rows(x), weight, bias, (competition,), RULE
        u, delta_w, delta_b, _ = learned(layer, *given, process_group)
    return SoftHebbOutput(u.view(*x.shape[:-1], weight.shape[0]), delta_w, delta_b)


def softhebb_linear_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    lr: float | Tensor,
    lr_power: float = 0.5,
    t_invert: float = COMPETITION.t_invert,
    wta: str = COMPETITION.wta,
    delta: float = COMPETITION.delta,
    rank: int = COMPETITION.rank,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
) -> Step:
    """``softhebb_linear`` and ``hebbian_step_`` in one, as ``softhebb_conv2d_step_``.

    The rates ``lr`` and ``lr_power`` are as there, the options as in ``softhebb_linear``.

    Shapes of ``x``, ``weight`` and ``bias``, and ``t_invert``, ``wta``, ``delta``, ``rank``,
    ``lebesgue_p``, ``tie_rule`` and ``backend`` as in ``softhebb_linear``.
    """
    given = Competition(t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    competition = _checked_linear(x, weight, bias, given)
    check_writable(weight)
    with torch.no_grad(), autocast_disabled(x.device):
        module, rate = chosen(backend, x, competition), Rate.of(lr, lr_power, x.device)
        u, delta_b, _ = module.linear_step_(_rows(x), weight, bias, rate, competition)
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
    stride: int | tuple[int, int] = CONVOLUTION.stride,
    padding: int | tuple[int, int] | str = CONVOLUTION.padding,
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
) -> BlockOutput:
    """Convolution, activation and pooling in one pass, learning or not; builds no graph.

    Gives what ``epilogue.apply`` makes of the u of ``softhebb_conv2d``, ``[B, K, PH, PW]``; a
    fused backend never stores u.

    Args:
        epilogue: activation and pooling.
        update: None (evaluation), ``"delta_w"`` (also return the direction) or ``"in_place"``
            (also step, as ``softhebb_conv2d_step_`` does).
        lr, lr_power: for ``"in_place"``.

    All other arguments are those of ``softhebb_conv2d``.

    Raises as ``softhebb_conv2d``, and ValueError for an unknown ``update``, a missing ``lr`` or a
    pooled map without a position.

    ``x``, ``weight`` and all other arguments are those of ``softhebb_conv2d``: ``bias``,
    ``stride``, ``padding``, ``dilation``, ``groups``, ``t_invert``, ``wta``, ``delta``, ``rank``,
    ``padding_mode``, ``pre_triangle``, ``x_bound``, ``lebesgue_p``, ``tie_rule``, ``backend``.
    """
    convolution = Convolution(
        stride, padding, dilation, groups, padding_mode, pre_triangle, x_bound
    )
    competition = Competition(t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    batch, *options = _checked_conv2d(x, weight, bias, convolution, competition)
    own = options[0]
    options.append(checked_epilogue(epilogue, conv2d_size(batch, weight, own), own.groups))
    check_update(update, lr)
    if update == "in_place":
        check_writable(weight)
    with torch.no_grad(), autocast_disabled(x.device):
        module = chosen(backend, x, competition)
        if update is None:
            out = BlockOutput(module.block_forward(batch, weight, bias, *options))
        elif update == "delta_w":
            pooled, *deltas, _ = module.block_update(batch, weight, bias, *options)
            out = BlockOutput(pooled, *deltas)
        else:
            rate = Rate.of(lr, lr_power, x.device)
            pooled, delta_b, _ = module.block_step_(batch, weight, bias, rate, *options)
            out = BlockOutput(pooled, delta_b=delta_b)
    return out if x.dim() == 4 else out._replace(out=out.out.squeeze(0))


def _checked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
) -> tuple[Tensor, Convolution, Competition]:
    x, convolution = checked_conv2d(x, weight, bias, convolution)
    return x, convolution, competition.checked(weight.shape[0] // convolution.groups)


def _checked_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, competition: Competition
) -> Competition:
    check_linear(x, weight, bias)
    return competition.checked(weight.shape[0])


def _rows(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
