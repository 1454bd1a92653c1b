"""The layer with any rule, as functions: arguments checked, backend chosen."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from softhebb_fast.checks import (
    check_are_tensors,
    check_writable,
    checked_epilogue,
    conv2d_size,
)
from softhebb_fast.functional.autocast import outside_autocast
from softhebb_fast.functional.learning import Call, check_update, chosen, conv2d_call, linear_call
from softhebb_fast.functional.parts import learned
from softhebb_fast.functional.rule_tensors import checked_rate
from softhebb_fast.options import (
    COMPETITION,
    CONVOLUTION,
    Competition,
    Convolution,
    Epilogue,
    Rate,
    Rule,
    single,
    usual_lr_power,
)
from softhebb_fast.reference import HebbianOutput


class HebbianStep(NamedTuple):
    """What a step in place gives: ``u`` as it was before, ``delta_b``, the bias's direction, or
    None, and ``statistic``, as in ``HebbianOutput``."""

    u: Tensor
    delta_b: Tensor | None
    statistic: Tensor | None


class HebbianBlockOutput(NamedTuple):
    """What ``hebbian_block`` gives: the map ``out``; ``delta_w``, ``delta_b`` and ``statistic``,
    as in ``HebbianOutput``, None where not asked for."""

    out: Tensor
    delta_w: Tensor | None = None
    delta_b: Tensor | None = None
    statistic: Tensor | None = None


def hebbian_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    rule: str | Rule = "softhebb",
    modulator: Tensor | None = None,
    target: Tensor | None = None,
    threshold: Tensor | None = None,
    lateral: Tensor | None = None,
    counts: Tensor | None = None,
    normalise: str | None = None,
    decay: float | None = None,
    stride: int | tuple[int, int] = CONVOLUTION.stride,
    padding: int | tuple[int, int] | str = CONVOLUTION.padding,
    dilation: int | tuple[int, int] = CONVOLUTION.dilation,
    groups: int = CONVOLUTION.groups,
    t_invert: float = COMPETITION.t_invert,
    wta: str | None = None,
    delta: float | None = None,
    rank: int | None = None,
    padding_mode: str = CONVOLUTION.padding_mode,
    pre_triangle: bool = CONVOLUTION.pre_triangle,
    x_bound: float | None = CONVOLUTION.x_bound,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
    process_group: dist.ProcessGroup | None = None,
) -> HebbianOutput:
    """Convolve ``x`` and compute the update of ``weight`` by any rule; ``weight`` stays as it is.

        u[p, k] = <x_p, W_k> (+ b_k)        D[k] = sum_p A[p, k] x_p - sum_j G[k, j] W_j

        rule                      A                                  G, summed over positions
        "softhebb"                the competition `wta` of u         diagonal, A u
        "krotov"                  1 at the winner, -delta at a rank  diagonal, A u
        "instar"                  the competition `wta` of u         diagonal, A
        "kmeans"                  1 where |x - W| is smallest        diagonal, A
        "hebb"                    u                                  0
        "oja"                     u                                  diagonal, u^2
        "sanger"                  u                                  lower triangle of u u^T
        "bcm"                     u (u - threshold)                  0
        "teacher"                 target                             diagonal, A u
        "delta_rule"              target - softmax(t u)              0
        "similarity"              y with y = u - M y                 diagonal, y^2
        "nonnegative_similarity"  y = relu(u - M y), ten steps       diagonal, y^2

    Shapes: as in ``softhebb_conv2d``.

    Args:
        rule: a name of the table, or an ``options.Rule``.
        modulator: a third factor that multiplies A, in G too: ``[B]`` or ``[B, 1, OH, OW]``.
        target: ``[B, K, OH, OW]``, ``[B, K]`` or class indices ``[B]``, for ``"teacher"`` and
            ``"delta_rule"``.
        threshold: ``[K]``, for ``"bcm"``: a running mean of u^2. Of a competition it is a
            handicap: ``u - threshold`` competes.
        lateral: M ``[K, K / groups]`` for the two similarities: M[k, j] is what neuron k takes
            from the j-th of its group.
        counts: ``[K]``, for ``normalise="count"``: what the neurons have learned from before.
        normalise: ``"max"`` (D over its largest magnitude, a group), ``"mean"`` (over the number
            of positions), ``"none"`` or ``"count"`` (row k over ``counts[k] + sum_p A[p, k]``).
            If not given, what is usual for the rule: ``"max"`` for ``"softhebb"``, ``"krotov"`` and
            ``"hebb"``, ``"count"`` for ``"kmeans"``, else ``"mean"``.
        decay: D loses so many times the number of positions times W; 0 if not given.
        wta, delta, rank: the competition's, where there is one. If not given, those of the rule:
            ``"hard_anti"``, 0.4 and 2 for ``"krotov"``, ``"hard"`` for ``"kmeans"``, else
            ``"soft_anti"``, 2 and 3.

    All other arguments are those of ``softhebb_conv2d``: ``bias``, ``stride``, ``padding``,
    ``dilation``, ``groups``, ``t_invert``, ``padding_mode``, ``pre_triangle``, ``x_bound``,
    ``lebesgue_p``, ``tie_rule``, ``backend``, ``process_group``. Numbers of tensors are taken in
    the dtype of the sums, float64 for float64 and else float32.

    Raises as ``softhebb_conv2d``, and ValueError for a tensor that the rule needs and that is
    missing, or that it does not use.

    Source: those of ``softhebb_fast.reference.rules``.
    """
    convolution = Convolution(
        stride, padding, dilation, groups, padding_mode, pre_triangle, x_bound
    )
    competition = Competition.of(rule, t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    tensors = dict(
        modulator=modulator, target=target, threshold=threshold, counts=counts, lateral=lateral
    )
    named = Rule.of(rule, normalise, decay, **tensors)
    with outside_autocast(x):
        call = conv2d_call(x, weight, bias, convolution, competition, named)
        layer = chosen(backend, x, call.competition, process_group is not None).conv2d
        given = call.x, weight, bias, call.options, call.rule
        out = learned(layer, *given, process_group, call.statistic)
    return out if x.dim() == 4 else out._replace(u=out.u.squeeze(0))


def hebbian_conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    rule: str | Rule = "softhebb",
    modulator: Tensor | None = None,
    target: Tensor | None = None,
    threshold: Tensor | None = None,
    lateral: Tensor | None = None,
    counts: Tensor | None = None,
    normalise: str | None = None,
    decay: float | None = None,
    lr: float | Tensor,
    lr_power: float | None = None,
    neuron_rates: Tensor | None = None,
    unit_norm: bool = False,
    stride: int | tuple[int, int] = CONVOLUTION.stride,
    padding: int | tuple[int, int] | str = CONVOLUTION.padding,
    dilation: int | tuple[int, int] = CONVOLUTION.dilation,
    groups: int = CONVOLUTION.groups,
    t_invert: float = COMPETITION.t_invert,
    wta: str | None = None,
    delta: float | None = None,
    rank: int | None = None,
    padding_mode: str = CONVOLUTION.padding_mode,
    pre_triangle: bool = CONVOLUTION.pre_triangle,
    x_bound: float | None = CONVOLUTION.x_bound,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
) -> HebbianStep:
    """``hebbian_conv2d`` and a step in place in one: changes ``weight``, builds no graph.

    ``W[k] += lr (| ||W_k|| - 1 | + 1e-10)^lr_power neuron_rates[k] delta_w[k]``, from the norms
    before the step. The bias and all other tensors are left alone.

    Args:
        lr: base rate, as in ``softhebb_conv2d_step_``.
        lr_power: exponent; if not given 0.5 for ``"softhebb"``, else 0, which is a constant rate.
        neuron_rates: ``[K]``, a factor of the rate of every neuron; 0 leaves it as it is.
        unit_norm: scale the weights to Lebesgue norm 1 after the step, but neurons of rate 0.

    ``x`` and all other arguments are those of ``hebbian_conv2d``: ``bias``, ``rule``,
    ``modulator``, ``target``, ``threshold``, ``lateral``, ``counts``, ``normalise``, ``decay``,
    ``stride``, ``padding``, ``dilation``, ``groups``, ``t_invert``, ``wta``, ``delta``, ``rank``,
    ``padding_mode``, ``pre_triangle``, ``x_bound``, ``lebesgue_p``, ``tie_rule``, ``backend``.
    """
    convolution = Convolution(
        stride, padding, dilation, groups, padding_mode, pre_triangle, x_bound
    )
    competition = Competition.of(rule, t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    tensors = dict(
        modulator=modulator, target=target, threshold=threshold, counts=counts, lateral=lateral
    )
    named = Rule.of(rule, normalise, decay, **tensors)
    with torch.no_grad(), outside_autocast(x):
        call = conv2d_call(x, weight, bias, convolution, competition, named)
        rate = _rate(lr, lr_power, rule, weight, neuron_rates, unit_norm)
        module = chosen(backend, x, call.competition)
        out = module.conv2d_step_(call.x, weight, bias, rate, *call.options, call.rule)
        step = _step(call, out)
    return step if x.dim() == 4 else step._replace(u=step.u.squeeze(0))


def hebbian_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    rule: str | Rule = "softhebb",
    modulator: Tensor | None = None,
    target: Tensor | None = None,
    threshold: Tensor | None = None,
    lateral: Tensor | None = None,
    counts: Tensor | None = None,
    normalise: str | None = None,
    decay: float | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] | str = 0,
    dilation: int | tuple[int] = 1,
    groups: int = CONVOLUTION.groups,
    t_invert: float = COMPETITION.t_invert,
    wta: str | None = None,
    delta: float | None = None,
    rank: int | None = None,
    padding_mode: str = CONVOLUTION.padding_mode,
    pre_triangle: bool = CONVOLUTION.pre_triangle,
    x_bound: float | None = CONVOLUTION.x_bound,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
    process_group: dist.ProcessGroup | None = None,
) -> HebbianOutput:
    """``hebbian_conv2d`` on ``x [B, C, L]`` or ``[C, L]`` and ``weight [K, C / groups, S]``.

    ``modulator`` is ``[B]`` or ``[B, 1, OL]``, ``target`` ``[B, K, OL]``, ``[B, K]`` or class
    indices ``[B]``. All other arguments are those of ``hebbian_conv2d``, and so are the errors:
    ``bias``, ``rule``, ``threshold``, ``lateral``, ``counts``, ``normalise``, ``decay``,
    ``stride``, ``padding``, ``dilation``, ``groups``, ``t_invert``, ``wta``, ``delta``, ``rank``,
    ``padding_mode``, ``pre_triangle``, ``x_bound``, ``lebesgue_p``, ``tie_rule``, ``backend``,
    ``process_group``.
    """
    check_are_tensors(x=x, weight=weight)
    if x.dim() not in (2, 3):
        raise ValueError(f"x must have 3 dimensions, or 2 without a batch; got {tuple(x.shape)}")
    if weight.dim() != 3:
        raise ValueError(f"weight must have 3 dimensions; got {tuple(weight.shape)}")
    out = hebbian_conv2d(
        x.unsqueeze(-2),
        weight.unsqueeze(-2),
        bias,
        rule=rule,
        modulator=in_rows(modulator, x),
        target=in_rows(target, x),
        threshold=threshold,
        lateral=lateral,
        counts=counts,
        normalise=normalise,
        decay=decay,
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
    return out._replace(u=out.u.squeeze(-2), delta_w=out.delta_w.squeeze(-2))


def hebbian_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    rule: str | Rule = "softhebb",
    modulator: Tensor | None = None,
    target: Tensor | None = None,
    threshold: Tensor | None = None,
    lateral: Tensor | None = None,
    counts: Tensor | None = None,
    normalise: str | None = None,
    decay: float | None = None,
    t_invert: float = COMPETITION.t_invert,
    wta: str | None = None,
    delta: float | None = None,
    rank: int | None = None,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
    process_group: dist.ProcessGroup | None = None,
) -> HebbianOutput:
    """Multiply ``x`` by ``weight`` and compute the update of ``weight`` by any rule.

    Shapes: x ``[..., N]`` or ``[N]``, weight ``[K, N]``, bias ``[K]``, modulator ``[...]`` or
    ``[..., 1]``, target ``[..., K]`` or class indices ``[...]``, lateral ``[K, K]``; u
    ``[..., K]``, delta_w as weight. All arguments and errors as in ``hebbian_conv2d``: ``rule``,
    ``modulator``, ``target``, ``threshold``, ``lateral``, ``counts``, ``normalise``, ``decay``,
    ``t_invert``, ``wta``, ``delta``, ``rank``, ``lebesgue_p``, ``tie_rule``, ``backend``,
    ``process_group``. ``"hard_anti"`` is that of ``softhebb_linear``.
    """
    competition = Competition.of(rule, t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    tensors = dict(
        modulator=modulator, target=target, threshold=threshold, counts=counts, lateral=lateral
    )
    named = Rule.of(rule, normalise, decay, **tensors)
    with outside_autocast(x):
        call = linear_call(x, weight, bias, competition, named)
        layer = chosen(backend, x, call.competition, process_group is not None).linear
        given = call.x, weight, bias, call.options, call.rule
        out = learned(layer, *given, process_group, call.statistic)
    return out._replace(u=out.u.view(*x.shape[:-1], weight.shape[0]))


def hebbian_linear_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    rule: str | Rule = "softhebb",
    modulator: Tensor | None = None,
    target: Tensor | None = None,
    threshold: Tensor | None = None,
    lateral: Tensor | None = None,
    counts: Tensor | None = None,
    normalise: str | None = None,
    decay: float | None = None,
    lr: float | Tensor,
    lr_power: float | None = None,
    neuron_rates: Tensor | None = None,
    unit_norm: bool = False,
    t_invert: float = COMPETITION.t_invert,
    wta: str | None = None,
    delta: float | None = None,
    rank: int | None = None,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
) -> HebbianStep:
    """``hebbian_linear`` and a step in place in one, as ``hebbian_conv2d_step_``.

    Shapes as in ``hebbian_linear``: of ``x``, ``weight``, ``bias``. ``lr``, ``lr_power``,
    ``neuron_rates`` and ``unit_norm`` as in ``hebbian_conv2d_step_``. All other arguments as in
    ``hebbian_linear``: ``rule``, ``modulator``, ``target``, ``threshold``, ``lateral``, ``counts``,
    ``normalise``, ``decay``,
    ``t_invert``, ``wta``, ``delta``, ``rank``, ``lebesgue_p``, ``tie_rule``, ``backend``.
    """
    competition = Competition.of(rule, t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    tensors = dict(
        modulator=modulator, target=target, threshold=threshold, counts=counts, lateral=lateral
    )
    named = Rule.of(rule, normalise, decay, **tensors)
    with torch.no_grad(), outside_autocast(x):
        call = linear_call(x, weight, bias, competition, named)
        rate = _rate(lr, lr_power, rule, weight, neuron_rates, unit_norm)
        module = chosen(backend, x, call.competition)
        out = module.linear_step_(call.x, weight, bias, rate, *call.options, call.rule)
        step = _step(call, out)
    return step._replace(u=step.u.view(*x.shape[:-1], weight.shape[0]))


def hebbian_block(
    x: Tensor,
    weight: Tensor,
    epilogue: Epilogue,
    bias: Tensor | None = None,
    *,
    rule: str | Rule = "softhebb",
    modulator: Tensor | None = None,
    target: Tensor | None = None,
    threshold: Tensor | None = None,
    lateral: Tensor | None = None,
    counts: Tensor | None = None,
    normalise: str | None = None,
    decay: float | None = None,
    update: str | None = None,
    lr: float | Tensor | None = None,
    lr_power: float | None = None,
    neuron_rates: Tensor | None = None,
    unit_norm: bool = False,
    stride: int | tuple[int, int] = CONVOLUTION.stride,
    padding: int | tuple[int, int] | str = CONVOLUTION.padding,
    dilation: int | tuple[int, int] = CONVOLUTION.dilation,
    groups: int = CONVOLUTION.groups,
    t_invert: float = COMPETITION.t_invert,
    wta: str | None = None,
    delta: float | None = None,
    rank: int | None = None,
    padding_mode: str = CONVOLUTION.padding_mode,
    pre_triangle: bool = CONVOLUTION.pre_triangle,
    x_bound: float | None = CONVOLUTION.x_bound,
    lebesgue_p: float = COMPETITION.lebesgue_p,
    tie_rule: str = COMPETITION.tie_rule,
    backend: str = "auto",
) -> HebbianBlockOutput:
    """Convolution, activation and pooling in one pass, learning by any rule or not.

    As ``softhebb_block``, of which ``epilogue``, ``update`` and ``lr`` are; builds no graph.
    ``lr_power``, ``neuron_rates`` and ``unit_norm`` as in ``hebbian_conv2d_step_``. ``x``,
    ``weight`` and all other arguments are those of ``hebbian_conv2d``, and so are the errors:
    ``bias``, ``rule``, ``modulator``, ``target``, ``threshold``, ``lateral``, ``counts``,
    ``normalise``, ``decay``,
    ``stride``, ``padding``, ``dilation``, ``groups``, ``t_invert``, ``wta``, ``delta``, ``rank``,
    ``padding_mode``, ``pre_triangle``, ``x_bound``, ``lebesgue_p``, ``tie_rule``, ``backend``.
    Without an ``update`` the tensors of the rule are not looked at.
    """
    convolution = Convolution(
        stride, padding, dilation, groups, padding_mode, pre_triangle, x_bound
    )
    competition = Competition.of(rule, t_invert, wta, delta, rank, lebesgue_p, tie_rule)
    tensors = dict(
        modulator=modulator, target=target, threshold=threshold, counts=counts, lateral=lateral
    )
    named = Rule.of(rule, normalise, decay, **tensors)
    check_update(update, lr)
    if update is None:
        named = None
    with torch.no_grad(), outside_autocast(x):
        call = conv2d_call(x, weight, bias, convolution, competition, named)
        size = conv2d_size(call.x, weight, call.options[0])
        groups = call.options[0].groups
        options = (*call.options, checked_epilogue(epilogue, size, groups))
        module = chosen(backend, x, call.competition)
        if update is None:
            out = HebbianBlockOutput(module.block_forward(call.x, weight, bias, *options))
        elif update == "delta_w":
            found = module.block_update(call.x, weight, bias, *options, call.rule)
            out = HebbianBlockOutput(*found[:3], call.statistic(found.statistic))
        else:
            rate = _rate(lr, lr_power, rule, weight, neuron_rates, unit_norm)
            found = module.block_step_(call.x, weight, bias, rate, *options, call.rule)
            pooled, delta_b, statistic = _step(call, found)
            out = HebbianBlockOutput(pooled, None, delta_b, statistic)
    return out if x.dim() == 4 else out._replace(out=out.out.squeeze(0))


def in_rows(tensor: Tensor | None, x: Tensor) -> Tensor | None:
    """A tensor with a place of its own for every position of sequences ``x``, as for images of one
    row; others as they are."""
    if not isinstance(tensor, Tensor) or tensor.dim() != x.dim():
        return tensor
    return tensor.unsqueeze(-2)


def _rate(
    lr: float | Tensor,
    lr_power: float | None,
    rule: str | Rule,
    weight: Tensor,
    neuron_rates: Tensor | None,
    unit_norm: bool,
) -> Rate:
    check_writable(weight)
    if lr_power is None:
        lr_power = usual_lr_power(rule)
    return checked_rate(lr, lr_power, weight, neuron_rates, unit_norm)


def _step(call: Call, out: tuple[Tensor, Tensor | None, Tensor | None]) -> HebbianStep:
    u, delta_b, statistic = out
    return HebbianStep(u, delta_b, call.statistic(statistic))
