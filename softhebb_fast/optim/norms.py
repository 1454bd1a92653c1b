"""Norm-dependent rates for any optimizer: what a step has changed is scaled, neuron by neuron.

Source: Journé et al. 2023 (arXiv 2209.11883), section 3. A step is the rate times what the
optimizer makes of the gradients, so scaling gradients is not enough: Adam divides their size away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer, Rprop
from torch.utils.hooks import RemovableHandle

from softhebb_fast.functional import norm_dependent_rate
from softhebb_fast.options import check_lebesgue_p


def norm_dependent(
    optimizer: Optimizer, lr_power: float = 0.5, lebesgue_p: float = 2.0
) -> RemovableHandle:
    """Make an optimizer's steps on Hebbian weights norm-dependent, neuron by neuron.

    What a step changes is multiplied by ``(| ||W_k|| - 1 | + 1e-10)^q``, W as it was before the
    step; the optimizer's own ``lr`` is the base rate. The exponent q is ``lr_power``, and the
    norms are of order ``lebesgue_p``. This holds for any optimizer, for momentum,
    weight decay and ``step(closure)``. Parameters without a gradient stay as they are. During a
    step the weights are kept a second time.

    Give each layer a parameter group of its own: a bias takes the factors of the weight that
    precedes it in the group. Every group must ascend, by ``maximize=True`` or by a negative ``lr``
    as in the published example, because the gradients of Hebbian layers point uphill. What learns
    from a loss needs another optimizer.

    Returns a handle whose ``remove()`` ends it. ``state_dict()`` and ``load_state_dict()`` are as
    without; a copied or unpickled optimizer loses it, as PyTorch's optimizers lose all hooks.

    Raises TypeError if ``optimizer`` is none. Raises ValueError, here or at the start of a step,
    for an optimizer that has such rates already, and for a group that descends or whose parameters
    have no neurons: ``[K, ...]``, or ``[K]`` after a weight.

    Example::

        optimizer = torch.optim.SGD(layer.parameters(), lr=0.08, maximize=True)
        norm_dependent(optimizer, lr_power=0.5)
    """
    check_optimizer(optimizer)
    before, after = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    if any(isinstance(getattr(hook, "__self__", None), NormDependence) for hook in before.values()):
        raise ValueError("optimizer has norm-dependent rates already; remove() their handle first")
    dependence = NormDependence(lr_power, lebesgue_p)
    dependence.check(optimizer)
    handle = RemovableHandle(before, extra_dict=after)
    before[handle.id] = dependence.keep
    after[handle.id] = dependence.scale
    return handle


class Kept(NamedTuple):
    """A parameter, what it was before the step, its neurons' factors, whether it had a gradient."""

    parameter: Tensor
    before: Tensor
    factor: Tensor
    had_gradient: bool


class NormDependence:
    """The hooks before and after a step."""

    lr_power: float
    lebesgue_p: float

    def __init__(self, lr_power: float, lebesgue_p: float) -> None:
        check_lebesgue_p(lebesgue_p)
        check_exponent("lr_power", lr_power)
        self.lr_power, self.lebesgue_p = lr_power, lebesgue_p
        self.kept: list[Kept] = []
        self.read: dict[str, tuple[Tensor, float]] = {}

    def check(self, optimizer: Optimizer) -> None:
        for number, group in enumerate(optimizer.param_groups):
            name = f"group {number} of optimizer"
            check_ascends(optimizer, name, group, self._lr(name, group))
            check_neurons(name, group["params"])

    def keep(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.check(optimizer)
        closure = len(args) > 1 or bool(kwargs)
        with torch.set_grad_enabled(_differentiable(optimizer)):
            self.kept = [
                Kept(p, p.clone(), self._factor(p, weight), p.grad is not None)
                for group in optimizer.param_groups
                for p, weight in with_weights(group["params"])
                if closure or p.grad is not None
            ]

    def scale(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept, self.kept = self.kept, []
        with torch.set_grad_enabled(_differentiable(optimizer)):
            for p, before, factor, had_gradient in kept:
                if had_gradient or p.grad is not None:
                    p.copy_(torch.addcmul(before, factor, p - before))

    def _lr(self, name: str, group: dict[str, Any]) -> float | None:
        """A group's rate; one on an accelerator as it was when it was read first."""
        lr = group.get("lr")
        if not isinstance(lr, Tensor):
            return lr
        if lr.numel() != 1:
            raise ValueError(
                f"{name} must have one lr for all neurons; got one of shape {tuple(lr.shape)}"
            )
        if lr.device.type == "cpu":
            return float(lr.detach())
        known, value = self.read.get(name, (None, 0.0))
        if known is not lr:  # reading waits for the device
            value = float(lr.detach())
            self.read[name] = lr, value
        return value

    def _factor(self, p: Tensor, weight: Tensor) -> Tensor:
        factor = norm_dependent_rate(weight, 1.0, self.lr_power, self.lebesgue_p)
        return factor.view(-1, *[1] * (p.dim() - 1))


def check_optimizer(optimizer: Optimizer) -> None:
    """One that calls its hooks; wrappers that are optimizers in name alone have none."""
    if not isinstance(optimizer, Optimizer) or not hasattr(optimizer, "_optimizer_step_post_hooks"):
        raise TypeError(
            "optimizer must be a torch.optim.Optimizer, of a wrapper the one inside; got "
            f"{type(optimizer).__name__}"
        )


def check_neurons(name: str, params: list[Tensor]) -> None:
    """Weights ``[K, ...]``, and what follows one ``[K]``."""
    for p, weight in with_weights(params):
        shape = tuple(p.shape)
        if weight is None:
            raise ValueError(
                f"{name} must hold a weight before its bias; got a parameter of shape {shape} first"
            )
        if p is not weight and p.shape != weight.shape[:1]:
            raise ValueError(
                f"{name} may hold weights and their biases alone; after a weight of shape "
                f"{tuple(weight.shape)} got a parameter of shape {shape}, which needs another "
                "optimizer"
            )


def check_ascends(optimizer: Optimizer, name: str, group: dict[str, Any], lr: float | None) -> None:
    if isinstance(optimizer, LBFGS) and group["line_search_fn"] is not None:
        raise ValueError(
            f"{name} must not search along a line, which descends on a loss; got "
            f"line_search_fn={group['line_search_fn']!r}"
        )
    # Without a rate of its own an optimizer descends. Rprop's steps have a size of their own.
    signed = lr is not None and not isinstance(optimizer, Rprop)
    if not descends(group, lr if signed else 1.0):
        return
    switch = f"maximize={group['maximize']}" if "maximize" in group else "no maximize"
    remedies = ["maximize=True"] * ("maximize" in group) + ["a negative lr"] * signed
    remedy = " or ".join(remedies) or "another optimizer"
    raise ValueError(
        f"{name} must ascend, because the gradients of Hebbian layers point uphill; got "
        f"{type(optimizer).__name__} with {switch} and {lr=}. Give it "
        f"{'either ' if len(remedies) > 1 else ''}{remedy}. What learns from a loss needs an "
        "optimizer of its own"
    )


def check_exponent(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value!r}")


def descends(group: dict[str, Any], lr: float | Tensor) -> bool:
    """Whether a group of an optimizer goes against its gradients."""
    return bool(lr < 0 if group.get("maximize") else lr > 0)


def with_weights(params: list[Tensor]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Every parameter with the weight whose factors it takes: itself, or the last one before it."""
    weight = None
    for p in params:
        if p.dim() > 1:
            weight = p
        yield p, weight


def _differentiable(optimizer: Optimizer) -> bool:
    return bool(optimizer.defaults.get("differentiable", False))
