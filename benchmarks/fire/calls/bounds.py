"""What a layer gives, in balls: the definition of ``softhebb_fast.reference`` with the bound of its
rounding, in whatever order numbers are added.

Layers are products of patches here: x ``[G, P, N]``, weight ``[G, K, N]``, u ``[G, P, K]`` of G
groups, P positions, N inputs and K neurons of a group.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.fire.calls.after import EPSILON, centred, rectified
from benchmarks.fire.calls.balls import FEW, Ball, Sums, made, number
from benchmarks.fire.calls.competing import Backend, compete, rounded_activity, softmax
from softhebb_fast.options import Competition, Convolution, Rule

STEPS = 10


class Layer(NamedTuple):
    """The arguments of a layer.

    Attributes:
        overwrite: the linear layer's form of ``"hard_anti"``.
    """

    x: Ball
    weight: Ball
    bias: Ball | None
    competition: Competition
    rule: Rule
    backend: Backend
    overwrite: bool = False
    pre_triangle: bool = False
    places: tuple[int, ...] = ()  # B, OH, OW, or P

    @property
    def sums(self) -> Sums:
        return self.x.sums


def patches(x: Tensor, weight: Tensor, c: Convolution) -> tuple[Tensor, tuple[int, int, int]]:
    """``[G, P, N]`` of images ``[B, C, H, W]``, and the B, OH and OW of which P is made."""
    rows, columns = c.padding
    mode = "constant" if c.padding_mode == "zeros" else c.padding_mode
    x = F.pad(x.detach().double(), (columns, columns, rows, rows), mode) if any(c.padding) else x
    kernel = weight.shape[2:]
    for dim, (k, d, s) in enumerate(zip(kernel, c.dilation, c.stride, strict=True), 2):
        x = x.unfold(dim, d * (k - 1) + 1, s)[..., ::d]
    batch, channels, height, width = x.shape[:4]
    found = x.reshape(batch, c.groups, channels // c.groups, height, width, *kernel)
    found = found.permute(1, 0, 3, 4, 2, 5, 6).reshape(
        c.groups, batch * height * width, weight[0].numel()
    )
    return found, (batch, height, width)


def of_groups(t: Tensor, groups: int) -> Tensor:
    """``[B, K, ...]`` as ``[G, P, K / G]``."""
    return t.movedim(1, -1).reshape(-1, groups, t.shape[1] // groups).transpose(0, 1)


def product_weight(weight: Ball, p: float) -> Ball:
    """``sign(W) |W|^(p - 1)``."""
    if p == 2:
        return weight
    power = weight._replace(mid=weight.mid.abs()).power(p - 1)
    none = weight.may_vanish > 0  # which has no sign
    rad = torch.where(none, power.mid.abs() + power.rad, power.rad)
    return power._replace(mid=weight.mid.sign() * power.mid, rad=rad)


def pre_activations(layer: Layer) -> Ball:
    p = layer.competition.lebesgue_p
    backend = layer.backend
    product = product_weight(layer.weight, p).rounded(backend.product, backend.terms)
    if p == 1 and not backend.knows_signs:
        infinite = layer.weight.mid.isinf()
        product = product._replace(rad=torch.where(infinite, torch.inf, product.rad))
    u = layer.x.matmul(product.map(lambda t: t.mT))
    if p != 2 and backend.terms > 1:
        infinite = layer.x.mid.isinf().any(dim=2, keepdim=True)
        u = u._replace(rad=torch.where(infinite, torch.inf, u.rad))
    if not backend.own_products:
        u = u._replace(rad=torch.full_like(u.rad, torch.inf))
    if backend.winograd:
        most = layer.x.size.max() * product.size.sum(dim=2)
        u = u._replace(rad=u.rad + 32 * layer.sums.eps * most[:, None])
    if layer.bias is not None:
        if backend.terms == 1:
            u = u.maybe_rounded(backend.product)
        u = u.plus(layer.bias.map(lambda t: t.unsqueeze(1)))
    if not layer.pre_triangle:
        return u
    return rectified(centred(kept(u, backend)))


def kept(u: Ball, backend: Backend) -> Ball:
    """u as it is read back."""
    return u.maybe_rounded(backend.product, backend.terms) if backend.terms > 1 else u


class Activity(NamedTuple):
    """A, before and after the modulator, and the modulator ``[1, P, 1]``."""

    bare: Ball
    a: Ball
    modulator: Ball | None


def activity(u: Ball, layer: Layer) -> Activity:
    rule, sums = layer.rule, layer.sums
    groups = u.mid.shape[0]
    threshold = None
    if rule.threshold is not None:
        threshold = Ball.given(rule.threshold.view(groups, 1, -1), sums)
    if rule.activity == "competition":
        if rule.nearest:
            square = layer.weight.times(layer.weight).sum(2).over(number(2.0, sums))
            u = u.minus(square.map(lambda t: t[:, None]))
        y = compete(
            u if threshold is None else u.minus(threshold),
            layer.competition,
            layer.backend,
            layer.overwrite,
        )
    elif rule.activity == "linear":
        y = u
    elif rule.activity == "threshold":
        y = u.times(u.minus(threshold))
    elif rule.activity in ("target", "error"):
        y = Ball.given(of_groups(rule.target, groups), sums)
        if rule.activity == "error":
            y = y.minus(softmax(u, layer.competition, layer.backend))
    else:
        y = settled(u, layer)
    y = rounded_activity(y, layer.backend)
    if rule.modulator is None:
        return Activity(y, y, None)
    modulator = Ball.given(rule.modulator.double().reshape(1, -1, 1), sums)
    return Activity(y, y.times(modulator), modulator)


def settled(u: Ball, layer: Layer) -> Ball:
    """``y = f(u - y M^T)`` as ``reference.settle`` makes it."""
    sums, neurons = layer.sums, u.mid.shape[2]
    m = Ball.given(layer.rule.lateral.view(-1, neurons, neurons), sums)
    both = m.plus(Ball.given(torch.eye(neurons), sums))
    if layer.rule.activity == "lateral":
        inverse = torch.linalg.inv_ex(both.mid).inverse
        size = inverse.abs() @ both.size @ inverse.abs()
        rad = size * sums.eps * FEW * neurons
        return u.matmul(Ball(inverse, rad, sums).map(lambda t: t.mT))
    scale = both._replace(mid=both.mid.abs()).sum(2).map(lambda t: t.amax(dim=1)[:, None, None])
    s = number(1.0, sums).over(scale)
    y = Ball.given(torch.zeros_like(u.mid), sums)
    for _ in range(STEPS):
        y = rectified(y.plus(s.times(u.minus(y.matmul(both.map(lambda t: t.mT))))))
    return y


class Update(NamedTuple):
    delta_w: Ball
    delta_b: Ball | None
    statistic: Ball | None


def update(u: Ball, layer: Layer, found: Activity | None = None) -> Update:
    """The normalised direction ``[G, K, N]``, that of the bias ``[G K]``, the statistic."""
    rule, sums, (x, weight) = layer.rule, layer.sums, layer[:2]
    u = kept(u, layer.backend)
    bare, a, modulator = activity(u, layer) if found is None else found
    if u.mid.shape[1] == 0:
        return _nothing(bare, a, u, weight, layer)
    positions = u.mid.shape[1]
    d = a.map(lambda t: t.mT).matmul(x)
    if layer.backend.winograd:
        most = a.size.sum(dim=1).unsqueeze(2) * x.size.max()
        d = d._replace(rad=d.rad + 32 * sums.eps * most)
    ways = x.size @ product_weight(weight, layer.competition.lebesgue_p).size.mT
    ways = ways if layer.bias is None else ways + layer.bias.size.unsqueeze(1)
    if rule.gain == "lower":
        u = rounded_activity(u, layer.backend)
        both = a.map(lambda t: t.mT).matmul(u, a.size.mT @ ways)
        d = d.minus(both.map(torch.tril).matmul(weight, both.size @ weight.size))
    elif rule.gain != "none":
        other = {"product": u, "activity": None, "square": bare}[rule.gain]
        gain = (a if other is None else a.times(other)).sum(1)
        if rule.gain == "product":
            more = FEW * sums.eps * (a.size * ways).sum(dim=1)
            products = (a.size.mT @ x.size).clamp(max=positions * sums.tiny)
            more = more + (products * weight.size).sum(dim=2)
            gain = gain._replace(rad=gain.rad + more)
        d = d.minus(gain.map(lambda t: t.unsqueeze(2)).times(weight))
    if rule.decay:
        d = d.minus(number(rule.decay * positions, sums).times(weight))
    if rule.gain != "none":  # of infinite factors infinite or NaN, by the order of its sums
        factors = (weight, a) if layer.bias is None else (weight, a, layer.bias)
        infinite = torch.stack([t.mid.isinf().flatten(1).any(dim=1) for t in factors]).any(dim=0)
        d = d._replace(rad=torch.where(infinite.view(-1, 1, 1), torch.inf, d.rad))
    sums_of_a = a.sum(1)
    delta_w = normalised(d, sums_of_a, positions, rule)
    delta_b = bias_update(sums_of_a, layer, modulator, positions)
    return Update(delta_w, delta_b, statistic(bare, a, u, sums_of_a, rule))


def _nothing(bare: Ball, a: Ball, u: Ball, weight: Ball, layer: Layer) -> Update:
    """Of no position."""
    zeros = Ball.given(torch.zeros_like(weight.mid), weight.sums)
    learns = layer.bias is not None and layer.competition.soft and layer.rule.learns_bias
    delta_b = zeros.sum(2).map(torch.flatten) if learns else None
    return Update(zeros, delta_b, statistic(bare, a, u, a.sum(1), layer.rule))


def normalised(d: Ball, sums_of_a: Ball, positions: int, rule: Rule) -> Ball:
    if rule.normalise == "max":
        return over_largest(d, (1, 2))
    if rule.normalise == "mean":
        return d.over(number(max(positions, 1), d.sums))
    if rule.normalise == "none":
        return d
    counts = Ball.given(rule.counts.view(d.mid.shape[0], -1), d.sums)
    counts = counts.plus(sums_of_a).plus(number(EPSILON, d.sums))
    return d.over(counts.map(lambda t: t.unsqueeze(2)))


def over_largest(d: Ball, dims: tuple[int, ...]) -> Ball:
    """``d / (max |d| + 1e-30)``: at most 1."""
    size = d.mid.abs()
    largest = size.amax(dim=dims, keepdim=True)
    low = (size - d.rad).amax(dim=dims, keepdim=True).clamp(min=0) + EPSILON
    high = (size + d.rad).amax(dim=dims, keepdim=True) + EPSILON
    mid = d.mid / (largest + EPSILON)
    rad = (d.rad + mid.abs() * (high - low)) / low
    rad = torch.where(largest.isfinite(), rad + FEW * d.sums.eps * mid.abs(), 0.0)
    rad = torch.where(rad > 1 + mid.abs(), 1 + FEW * d.sums.eps + mid.abs(), rad)
    lost = d.rad.amax(dim=dims, keepdim=True).isinf()
    return made(mid, torch.where(lost, torch.inf, rad), d.sums)


def bias_update(
    sums_of_a: Ball, layer: Layer, modulator: Ball | None, positions: int
) -> Ball | None:
    rule, sums = layer.rule, layer.sums
    if layer.bias is None or not (layer.competition.soft and rule.learns_bias):
        return None
    exponent = number(layer.competition.t_invert, sums).times(layer.bias)
    prior = exponent.through(torch.exp, FEW)
    prior = prior._replace(rad=torch.where(prior.mid < 1 / sums.largest, torch.inf, prior.rad))
    n = number(positions, sums) if modulator is None else modulator.map(torch.flatten).sum(0)
    d = sums_of_a.minus(prior.times(n)).over(prior).map(torch.flatten)
    found = over_largest(d, (0,))
    known = layer.bias.mid.isfinite().all() and prior.mid.isfinite().all()
    if layer.backend.own_biases and not known:
        return found._replace(rad=torch.full_like(found.rad, torch.inf))
    return found


def statistic(bare: Ball, a: Ball, u: Ball, sums_of_a: Ball, rule: Rule) -> Ball | None:
    if rule.statistic is None:
        return None
    if rule.statistic == "products":
        return a.map(lambda t: t.mT).matmul(bare).map(lambda t: t.flatten(0, 1))
    found = u.times(u).sum(1) if rule.statistic == "square" else sums_of_a
    return found.map(torch.flatten)
