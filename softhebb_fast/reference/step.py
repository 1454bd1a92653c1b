"""The step along a direction, at rates that follow from the norms of the weights."""

from __future__ import annotations

import torch
from torch import Tensor

from softhebb_fast.options import Rate
from softhebb_fast.reference.product import EPSILON, accumulated


def norm_dependent_rate(
    weight: Tensor, lr: float | Tensor, lr_power: float = 0.5, lebesgue_p: float = 2.0
) -> Tensor:
    """``lr (| ||W_k|| - 1 | + 1e-10)^q`` for every neuron k, ``[K]``."""
    w = _rows(accumulated(weight))
    norm = torch.linalg.vector_norm(w, ord=lebesgue_p, dim=1)
    # Powers of large weights leave float32; elsewhere the published rule's rounding is kept.
    wide = torch.linalg.vector_norm(w, ord=lebesgue_p, dim=1, dtype=torch.float64).to(w.dtype)
    norm = torch.where(norm.isfinite(), norm, wide)
    return lr * ((norm - 1).abs() + 1e-10) ** lr_power


def rates(weight: Tensor, rate: Rate, lebesgue_p: float = 2.0) -> Tensor:
    """The rate of every neuron at a step, ``[K]``, its own factor included."""
    found = norm_dependent_rate(weight, rate.base, rate.lr_power, lebesgue_p)
    return found if rate.neuron_rates is None else found * rate.neuron_rates


@torch.no_grad()
def hebbian_step_(
    weight: Tensor,
    delta_w: Tensor,
    lr: float | Tensor,
    lr_power: float = 0.5,
    lebesgue_p: float = 2.0,
) -> Tensor:
    """``W += rate * delta_w`` in place, the rate from the norms of W before the step."""
    return step_(weight, delta_w, Rate(lr, lr_power), lebesgue_p)


@torch.no_grad()
def step_(weight: Tensor, delta_w: Tensor, rate: Rate, lebesgue_p: float = 2.0) -> Tensor:
    """``hebbian_step_`` at the neurons' own rates, and to unit norm if ``rate`` says so."""
    own = rates(weight, rate, lebesgue_p)
    beside = own.view(-1, *[1] * (weight.dim() - 1))
    if not rate.unit_norm:
        return weight.add_(beside * delta_w)
    return weight.copy_(unit(accumulated(weight) + beside * delta_w, own, lebesgue_p))


def unit(w: Tensor, rates: Tensor, lebesgue_p: float) -> Tensor:
    """Rows of ``w [K, ...]`` over their Lebesgue norm plus 1e-30, but those of rate 0."""
    # Powers of large and small weights leave float32.
    norm = torch.linalg.vector_norm(_rows(w), ord=lebesgue_p, dim=1, dtype=torch.float64)
    norm = torch.where(rates == 0, 1.0, norm + EPSILON).to(w.dtype)
    return w / norm.view(-1, *[1] * (w.dim() - 1))


def _rows(w: Tensor) -> Tensor:
    """``w [K, ...]`` as ``[K, P]``, contiguous.

    Torch adds in the order of the strides, and every view of the same values has the same norm.
    """
    return w.flatten(1).contiguous()
