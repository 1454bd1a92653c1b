"""The optimizer and the schedulers of the published example, for today's PyTorch.

Source: the example that comes with Journé et al. 2023 (arXiv 2209.11883). Its own pass a
``verbose`` that PyTorch's schedulers no longer take, and set a rate for each neuron in a group that
they take to have one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from softhebb_fast.functional import norm_dependent_rate
from softhebb_fast.init.common import check_positive
from softhebb_fast.optim.norms import check_exponent, descends
from softhebb_fast.optim.schedules import HALVINGS


class TensorLRSGD(SGD):
    """SGD whose groups may have a rate for each neuron as their ``lr``.

    ``params``, ``momentum``, ``dampening``, ``weight_decay``, ``nesterov`` and all other arguments
    are those of ``torch.optim.SGD``. ``lr`` of a group is a number, or a tensor of K numbers,
    ``[K]`` or ``[K, 1, ...]``, for parameters ``[K, ...]``. The published example descends with
    negative rates; ``maximize=True`` and positive ones do the same.

    Raises ValueError for ``foreach``, ``fused`` and ``differentiable``: parameters are stepped one
    by one, outside any graph.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        for name in ("foreach", "fused", "differentiable"):
            value = param_group.get(name, self.defaults.get(name))
            if value:
                raise ValueError(f"{name} must be off, TensorLRSGD has none; got {value!r}")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every parameter that has a gradient. Returns what ``closure`` does, if given.

        Raises ValueError, before anything is stepped, for rates that are not as many as neurons.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rates = [
            (p, group, _rate(group["lr"], p, number))
            for number, group in enumerate(self.param_groups)
            for p in group["params"]
            if p.grad is not None
        ]
        for p, group, rate in rates:
            p.add_(-rate * self._direction(p, group))
        return loss

    def _direction(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        d = -p.grad if group["maximize"] else p.grad
        if group["weight_decay"]:
            d = d.add(p, alpha=group["weight_decay"])
        if not group["momentum"]:
            return d
        state = self.state[p]
        buffer = state.get("momentum_buffer")
        if buffer is None:
            buffer = state["momentum_buffer"] = d.clone()
        else:
            buffer.mul_(group["momentum"]).add_(d, alpha=1 - group["dampening"])
        return d.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer


class WeightNormDependentLR(LRScheduler):
    """Sets the rate of every neuron k to ``lr (| ||W_k|| - 1 | + 1e-10)^power_lr``.

    ``lr`` is what the group had before its first scheduler, which becomes ``[K, 1, ...]``, as
    ``TensorLRSGD`` takes it. A group holds one weight ``[K, ...]`` and perhaps its bias. Rates are
    set at the start and by ``step()``, which comes after each step of the optimizer.
    ``optimizer`` and ``last_epoch`` are as in PyTorch's schedulers.

    Warns of groups that descend, because the gradients of Hebbian layers point uphill, and that
    ``verbose`` is ignored, because PyTorch's schedulers no longer print. Raises ValueError for a
    group without a weight or with several, and for PyTorch's own optimizers, which take one rate
    for all neurons.
    """

    def __init__(
        self, optimizer: Optimizer, power_lr: float, last_epoch: int = -1, verbose: bool = False
    ) -> None:
        check_exponent("power_lr", power_lr)
        if type(optimizer).__module__.startswith("torch.optim"):
            raise ValueError(
                "optimizer must take a rate for each neuron, as TensorLRSGD does; got torch.optim."
                f"{type(optimizer).__name__}, for which there is norm_dependent(optimizer)"
            )
        for number, group in enumerate(optimizer.param_groups):
            _weight(group, number)
        if verbose:
            warnings.warn("verbose is ignored; get_last_lr() tells the rates", stacklevel=2)
        self.power_lr = power_lr
        super().__init__(optimizer, last_epoch)
        for number, (group, lr) in enumerate(
            zip(optimizer.param_groups, self.base_lrs, strict=True)
        ):
            if descends(group, lr):
                warnings.warn(
                    f"group {number} of optimizer descends, but the gradients of Hebbian layers "
                    f"point uphill; use a negative lr or maximize=True. Got {lr=}",
                    stacklevel=2,
                )

    @torch.no_grad()
    def get_lr(self) -> list[Tensor]:
        """The rates by the norms as they are, one tensor a group."""
        groups = enumerate(zip(self.optimizer.param_groups, self.base_lrs, strict=True))
        return [self._rates(_weight(group, number), lr) for number, (group, lr) in groups]

    def _rates(self, weight: Tensor, lr: float | Tensor) -> Tensor:
        rates = norm_dependent_rate(weight, lr, self.power_lr)
        return rates.view(-1, *[1] * (weight.dim() - 1))

    def step(self, epoch: int | None = None) -> None:
        """Set the rates anew; ``epoch`` is as in PyTorch's schedulers."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ValueError(
                f"optimizer must have the {len(self.base_lrs)} groups that its scheduler was made "
                f"for; got {len(groups)}: make the scheduler anew"
            )
        for group in groups:
            group["lr"] = 0.0  # PyTorch would fill the tensor that is there with one number
        super().step(epoch)


class CustomStepLR(MultiStepLR):
    """Halves the rate of ``optimizer`` after 20, 35, 50, 60, 70, 80 and 90 % of ``nb_epochs``.

    To be stepped after each epoch of the classifier. Of shares that fall on one epoch the first
    counts. ``halving_schedule`` leaves short runs as they are, as the published program does.
    """

    def __init__(self, optimizer: Optimizer, nb_epochs: int) -> None:
        check_positive("nb_epochs", nb_epochs)
        milestones = {int(nb_epochs * share) for share in HALVINGS}
        super().__init__(optimizer, sorted(milestones), gamma=0.5)


def _weight(group: dict[str, Any], number: int) -> Tensor:
    weights = [p for p in group["params"] if p.dim() > 1]
    if len(weights) != 1:
        raise ValueError(
            f"group {number} of optimizer must hold one weight [K, ...]; got parameters of shapes "
            f"{[tuple(p.shape) for p in group['params']]}"
        )
    return weights[0]


def _rate(lr: float | Tensor, p: Tensor, number: int) -> float | Tensor:
    if not isinstance(lr, Tensor):
        return lr
    if lr.numel() == 1:
        return lr.reshape(())
    if p.dim() == 0 or lr.numel() != p.shape[0]:
        raise ValueError(
            f"lr of group {number} must be a number or one for each neuron; got one of shape "
            f"{tuple(lr.shape)} for a parameter of shape {tuple(p.shape)}"
        )
    return lr.to(p.device).view(-1, *[1] * (p.dim() - 1))
