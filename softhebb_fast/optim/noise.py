"""Noise on gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from softhebb_fast.init.common import check_positive
from softhebb_fast.optim.norms import check_optimizer


def gradient_noise(optimizer: Optimizer, size: float) -> RemovableHandle:
    """Add N(0, size²) to every gradient before each of the optimizer's steps.

    Where a step is given a closure, to what every call of it leaves. Of sparse gradients the stored
    values get noise, and gradients that the step itself divides by a ``GradScaler``'s scale get as
    much more.

    Channels that are equal part, as they do by the rounding of non-deterministic sums (ConstNet,
    Blumenfeld et al. 2020). Numbers come from torch's global generator of the gradient's device.

    Returns a handle whose ``remove()`` ends it. Raises TypeError if ``optimizer`` is none,
    ValueError for a size that is not positive and finite.
    """
    check_optimizer(optimizer)
    check_positive("size", size)

    @torch.no_grad()
    def add_noise(optimizer: Optimizer) -> None:
        scale = getattr(optimizer, "grad_scale", None)
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    values = _values(p)
                    noise = torch.randn_like(values)
                    values.add_(noise if scale is None else noise * scale, alpha=size)

    def before_step(
        optimizer: Optimizer, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]] | None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            return add_noise(optimizer)

        def noisy() -> Any:
            loss = closure()
            add_noise(optimizer)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": noisy}
        return (args[0], noisy, *args[2:]), kwargs

    return optimizer.register_step_pre_hook(before_step)


def _values(p: Tensor) -> Tensor:
    """What is stored of the gradient of ``p``, every value once."""
    if not p.grad.is_sparse:
        return p.grad
    p.grad = p.grad.coalesce()
    return p.grad.values()
