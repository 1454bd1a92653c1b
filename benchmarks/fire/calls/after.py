"""What follows a layer's u and D, in balls: the epilogue of u and a step of the weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.fire.calls.balls import FEW, Ball, number
from softhebb_fast.options import Epilogue, Rate

EPSILON = 1e-30


def of_places(u: Ball, places: tuple[int, ...]) -> Ball:
    """``[G, P, K]`` as ``[B, G K, OH, OW]`` or ``[P, G K]``."""

    def move(t: Tensor) -> Tensor:
        neurons = t.shape[0] * t.shape[2]
        return t.transpose(0, 1).reshape(*places, neurons).movedim(-1, 1)

    return u.map(move)


def centred(u: Ball) -> Ball:
    """Less the mean over the neurons of all groups."""
    groups, positions, neurons = u.mid.shape
    flat = u.map(lambda t: t.transpose(0, 1).reshape(positions, groups * neurons))
    mean = flat.sum(1).over(number(groups * neurons, u.sums))
    return u.minus(mean.map(lambda t: t[None, :, None]))


def rectified(u: Ball) -> Ball:
    return u.through(F.relu)


def pooled(u: Ball, epilogue: Epilogue, places: tuple[int, ...]) -> Ball:
    """The epilogue of u, ``[B, K, PH, PW]``."""
    a = of_places(rectified(centred(u) if epilogue.centre else u), places)
    if epilogue.power != 1:
        a = a.power(epilogue.power)
    sizes = epilogue.kernel, epilogue.stride, epilogue.padding
    if epilogue.pool == "max":
        return a.through(lambda t: F.max_pool2d(t, *sizes))
    return a.through(lambda t: F.avg_pool2d(t, *sizes), FEW)


def stepped(weight: Ball, delta_w: Ball, rate: Rate, p: float, dtype: torch.dtype) -> Ball:
    """The weight ``[K, N]`` after a step, in its dtype."""
    own = rates(weight, rate, p)
    step = own.map(lambda t: t.unsqueeze(1)).times(delta_w)
    moved = weight.plus(step)
    if rate.unit_norm:
        norm = norms(moved, p).plus(number(EPSILON, weight.sums))
        unit = moved.over(norm.map(lambda t: t.unsqueeze(1)))
        still = (own.mid == 0).unsqueeze(1)
        mid = torch.where(still, moved.mid, unit.mid)
        moved = Ball(mid, torch.where(still, moved.rad, unit.rad), weight.sums)
    return moved.rounded(dtype)


def rates(weight: Ball, rate: Rate, p: float) -> Ball:
    """Of every neuron ``[K]``, of a weight ``[K, N]``."""
    sums = weight.sums
    norm = norms(weight, p)
    distance = norm.minus(number(1.0, sums))
    distance = absolute(distance).plus(number(1e-10, sums))
    q = rate.lr_power
    power = distance.power(q, 1e-10)
    base = rate.lr if rate.lr_tensor is None else rate.lr_tensor.detach().double().reshape(())
    found = number(base, sums).times(power)
    if rate.neuron_rates is None:
        return found
    return found.times(Ball.given(rate.neuron_rates, sums))


def norms(weight: Ball, p: float) -> Ball:
    """p-norms of the rows, which no backend lets overflow on the way."""
    mid = torch.linalg.vector_norm(weight.mid, ord=p, dim=1)
    n = weight.mid.shape[1]
    rad = torch.linalg.vector_norm(weight.rad, ord=p, dim=1)
    rad = rad + (FEW + n) * weight.sums.eps * mid.nan_to_num(0, 0, 0)
    known = ~mid.isfinite() & weight.rad.isfinite().all(dim=1)
    return Ball(mid, torch.where(known, 0.0, rad), weight.sums)


def absolute(t: Ball) -> Ball:
    low = torch.where(t.mid.abs() < t.rad, 0.0, t.mid.abs() - t.rad)
    return Ball.between(low, t.mid.abs() + t.rad, t.sums)
