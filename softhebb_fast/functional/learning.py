"""What the functions of all rules share: a call's arguments, checked and put together."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from softhebb_fast import reference
from softhebb_fast.backends import resolve
from softhebb_fast.checks import check_linear, checked_conv2d, conv2d_size
from softhebb_fast.functional.autocast import autocast_disabled
from softhebb_fast.functional.rounding import SHORT
from softhebb_fast.functional.rule_tensors import Place, fitted
from softhebb_fast.functional.transforms import transforming
from softhebb_fast.options import RULE, Competition, Convolution, Rule


def chosen(backend: str, x: Tensor, competition: Competition, parts: bool = False) -> ModuleType:
    """The backend that computes a batch, or ``parts`` of one, which are summed in float32 at
    least."""
    if not torch.compiler.is_compiling() and transforming():
        if backend in ("auto", "reference"):
            return reference
        raise RuntimeError(
            f"backend={backend!r}: kernels cannot follow torch.func or forward-mode gradients. "
            "Use backend='auto' or 'reference'."
        )
    dtype = torch.float32 if parts and x.dtype in SHORT else x.dtype
    return resolve(backend, x.device, dtype, competition.tie_rule)


def check_update(update: str | None, lr: float | Tensor | None) -> None:
    """What a block is asked to do with its weights."""
    if update not in (None, "delta_w", "in_place"):
        raise ValueError(f"update must be None, 'delta_w' or 'in_place'; got {update!r}")
    if update == "in_place" and lr is None:
        raise ValueError("lr must be given for update='in_place'; got None")


class Call(NamedTuple):
    """The checked arguments of a call.

    Attributes:
        x: a batch, ``[B, C, H, W]`` or ``[P, N]``.
        weight, bias: as given.
        options: those of the backend's function, but for the rule.
        rule: what is learned. Outside the CPU the activity of neurons that settle is a target.
        settled: that activity, or None.
        groups: of the neurons.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    options: tuple[Any, ...]
    rule: Rule
    settled: Tensor | None
    groups: int

    @property
    def competition(self) -> Competition:
        return self.options[-1]

    def statistic(self, found: Tensor | None) -> Tensor | None:
        """What the rule's state follows from."""
        if self.settled is None:
            return found
        return reference.correlations(self.settled, self.rule, self.groups)


def conv2d_call(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    rule: Rule | None,
) -> Call:
    """Raises TypeError or ValueError, naming the argument that does not fit.

    Without a rule the call does not learn.
    """
    batch, convolution = checked_conv2d(x, weight, bias, convolution)
    competition = competition.checked(weight.shape[0] // convolution.groups)
    size = batch.shape[0], weight.shape[0], *conv2d_size(batch, weight, convolution)
    place = Place(x, weight, size, convolution.groups)
    return _call(place, batch, bias, (convolution, competition), rule)


def linear_call(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    competition: Competition,
    rule: Rule,
) -> Call:
    """Raises TypeError or ValueError, naming the argument that does not fit."""
    check_linear(x, weight, bias)
    competition = competition.checked(weight.shape[0])
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    place = Place(x, weight, (rows.shape[0], weight.shape[0]))
    return _call(place, rows, bias, (competition,), rule)


def _call(
    place: Place,
    batch: Tensor,
    bias: Tensor | None,
    options: tuple[Any, ...],
    rule: Rule | None,
) -> Call:
    rule = RULE if rule is None else fitted(rule, place)
    y = None
    if rule.settles and not batch.is_cpu:
        with torch.no_grad(), autocast_disabled(batch.device):
            u = _pre_activations(batch, place.weight, bias, *options)
            y = reference.settle(u, rule.lateral, rectified=rule.activity == "rectified_lateral")
        if y.dim() == 4:
            y = y.contiguous(memory_format=suggest_memory_format(batch))
        rule = rule._replace(activity="target", target=y, lateral=None)
    return Call(batch, place.weight, bias, options, rule, y, place.groups)


def _pre_activations(
    x: Tensor, weight: Tensor, bias: Tensor | None, *options: Convolution | Competition
) -> Tensor:
    """u in the dtype of the sums."""
    x, weight, bias = (None if t is None else reference.accumulated(t) for t in (x, weight, bias))
    competition = options[-1]
    if len(options) == 1:
        product = reference.lebesgue_weight(weight, competition.lebesgue_p)
        return torch.nn.functional.linear(x, product, bias)
    convolution = options[0]
    x = reference.pad(x, convolution.padding, convolution.padding_mode)
    return reference.pre_activations(x, weight, bias, convolution, competition.lebesgue_p)
