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

from benchmarks.fire.balls import FEW, Ball, Sums, made
from softhebb_fast.options import Competition, Convolution, Epilogue, Rate, Rule

EPSILON, STEPS = 1e-30, 10


class Backend(NamedTuple):
    """In what a backend is less exact than a sum in any order.

    Attributes:
        y_eps: how y is rounded before it is multiplied, in 16-bit layers.
        absolute: t u itself is rounded before the softmax, not its distance from the largest.
        winograd: sums of a tile share their rounding.
        product: the dtype to which the weight of the product is rounded, if it is.
    """

    y_eps: float = 0.0
    absolute: bool = False
    winograd: bool = False
    product: torch.dtype = torch.float64


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


def of_places(u: Ball, places: tuple[int, ...]) -> Ball:
    """``[G, P, K]`` as ``[B, G K, OH, OW]`` or ``[P, G K]``."""

    def move(t: Tensor) -> Tensor:
        neurons = t.shape[0] * t.shape[2]
        return t.transpose(0, 1).reshape(*places, neurons).movedim(-1, 1)

    return u.map(move)


def number(value: float | Tensor, sums: Sums) -> Ball:
    """One that is taken in the dtype of the sums."""
    mid = torch.as_tensor(value, dtype=torch.float64)
    return Ball(mid, mid.abs().nan_to_num(0, 0, 0) * sums.eps, sums)


def product_weight(weight: Ball, p: float) -> Ball:
    """``sign(W) |W|^(p - 1)``."""
    if p == 2:
        return weight
    power = weight._replace(mid=weight.mid.abs()).through(
        lambda t: t.clamp(min=0) ** (p - 1), FEW * max(1, p)
    )
    return power._replace(mid=weight.mid.sign() * power.mid)


def pre_activations(layer: Layer) -> Ball:
    product = product_weight(layer.weight, layer.competition.lebesgue_p)
    product = product.rounded(layer.backend.product)
    u = layer.x.matmul(product.map(lambda t: t.mT))
    if layer.backend.winograd:
        most = layer.x.size.max() * product.size.sum(dim=2)
        u = u._replace(rad=u.rad + 32 * layer.sums.eps * most[:, None])
    if layer.bias is not None:
        u = u.plus(layer.bias.map(lambda t: t.unsqueeze(1)))
    return rectified(centred(u)) if layer.pre_triangle else u


def centred(u: Ball) -> Ball:
    """Less the mean over the neurons of all groups."""
    groups, positions, neurons = u.mid.shape
    flat = u.map(lambda t: t.transpose(0, 1).reshape(positions, groups * neurons))
    mean = flat.sum(1).over(number(groups * neurons, u.sums))
    return u.minus(mean.map(lambda t: t[None, :, None]))


def rectified(u: Ball) -> Ball:
    return u.through(F.relu)


class Activity(NamedTuple):
    """A, before and after the modulator, and a mask of sums that it adds."""

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
        y = compete(u if threshold is None else u.minus(threshold), layer)
    elif rule.activity == "linear":
        y = u
    elif rule.activity == "threshold":
        y = u.times(u.minus(threshold))
    elif rule.activity in ("target", "error"):
        y = Ball.given(of_groups(rule.target, groups), sums)
        if rule.activity == "error":
            y = y.minus(softmax(u, layer))
    else:
        y = settled(u, layer)
    if layer.backend.y_eps:
        y = y._replace(rad=y.rad + y.size * layer.backend.y_eps)
    if rule.modulator is None:
        return Activity(y, y, None)
    modulator = Ball.given(rule.modulator.double().reshape(1, -1, 1), sums)
    return Activity(y, y.times(modulator), modulator)


def softmax(u: Ball, layer: Layer) -> Ball:
    """Of u in any place of its balls."""
    t, eps = layer.competition.t_invert, layer.sums.eps
    largest = u.mid.amax(dim=2, keepdim=True)
    z = t * (u.mid - largest)
    rounding = z.abs()
    if layer.backend.absolute:
        rounding = rounding + 2 * t * (u.mid.abs() + largest.abs())
    off = t * u.rad + 4 * eps * torch.where(z.isfinite(), rounding, 0)
    least = torch.sigmoid(z - off - _log_sum_of_others(z + off))
    most = torch.sigmoid(z + off - _log_sum_of_others(z - off))
    unknown = (u.rad.isinf() | off.isinf()).any(dim=2, keepdim=True)
    bad = ~u.mid.isfinite().all(dim=2, keepdim=True) & ~unknown
    exact = torch.softmax(z, dim=2)
    least = torch.where(bad, exact, torch.where(unknown, 0.0, least))
    most = torch.where(bad, exact, torch.where(unknown, 1.0, most))
    found = Ball.between(least, most, layer.sums, FEW)
    lost = u.rad.isinf().any(dim=2, keepdim=True)
    return found._replace(rad=torch.where(lost, torch.inf, found.rad))


def _log_sum_of_others(z: Tensor) -> Tensor:
    """``ln sum e^z`` over all neurons but each."""
    own = torch.eye(z.shape[-1], dtype=torch.bool)
    return z.unsqueeze(-2).masked_fill(own, -torch.inf).logsumexp(dim=-1)


def compete(u: Ball, layer: Layer) -> Ball:
    c = layer.competition
    if c.soft and not c.anti:
        return softmax(u, layer)
    surely, maybe = above(u, c.tie_rule == "spread")
    first, may_be_first = maybe == 0, surely == 0
    if c.soft:
        p = softmax(u, layer)
        high = torch.where(may_be_first, p.high, -p.low)
        low = torch.where(first, p.low, -p.high)
        found = Ball.between(low, high, layer.sums)
    else:
        low, high = first.double(), may_be_first.double()
        if c.ranks:
            r = c.rank - 1
            loses, may_lose = (surely == r) & (maybe == r), (surely <= r) & (r <= maybe)
            lost = torch.tensor(-c.delta, dtype=torch.float64)
            values = torch.stack([low, high, low, high])
            values[2:] = lost if layer.overwrite else values[2:] + lost
            values[:2] = torch.where(loses, values[2:], values[:2])
            values[2:] = torch.where(may_lose, values[2:], values[:2])
            low, high = values.amin(dim=0), values.amax(dim=0)
        found = Ball.between(low, high, layer.sums, 2)
        found = found._replace(rad=torch.where(low == high, 2 * layer.sums.eps * low.abs(), found.rad))
    lost = u.rad.isinf().any(dim=2, keepdim=True)
    if c.soft:
        lost = lost | p.rad.isinf()
        spoilt = ~p.mid.isfinite() & ~lost
        found = Ball(torch.where(spoilt, p.mid, found.mid), torch.where(spoilt, 0.0, found.rad), u.sums)
        return found._replace(rad=torch.where(lost, torch.inf, found.rad))
    return found  # 0, 1 and -delta, whatever u is


def above(u: Ball, spread: bool) -> tuple[Tensor, Tensor]:
    """How many neurons are surely, and may be, before each; NaN is before all, the first wins
    exact ties."""
    low, high, nan = u.low, u.high, u.mid.isnan()
    low, high = torch.where(nan, torch.inf, low), torch.where(nan, torch.inf, high)
    unknown = u.rad.isinf()
    low, high = torch.where(unknown, -torch.inf, low), torch.where(unknown, torch.inf, high)
    exact = (low == high) & ~unknown
    earlier = torch.ones(u.mid.shape[2], u.mid.shape[2], dtype=torch.bool).triu(1)  # [j, k]

    def pairs(t: Tensor) -> tuple[Tensor, Tensor]:
        return t.unsqueeze(3), t.unsqueeze(2)

    (low_j, low_k), (high_j, high_k) = pairs(low), pairs(high)
    (exact_j, exact_k), (nan_j, nan_k) = pairs(exact), pairs(nan & ~unknown)
    same = exact_j & exact_k & (low_j == low_k) & (nan_j == nan_k)
    beats = (low_j > high_k) | (nan_j & ~nan_k & ~pairs(unknown)[1])
    if not spread:
        beats = beats | (same & earlier)
    surely = beats.sum(dim=2)
    beaten = beats.mT.sum(dim=2)  # how many k surely beats
    return surely, u.mid.shape[2] - 1 - beaten


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
    bare, a, modulator = activity(u, layer) if found is None else found
    d = a.map(lambda t: t.mT).matmul(x)
    if layer.backend.winograd:
        most = a.size.sum(dim=1).unsqueeze(2) * x.size.max()
        d = d._replace(rad=d.rad + 32 * sums.eps * most)
    ways = x.size @ product_weight(weight, layer.competition.lebesgue_p).size.mT
    ways = ways if layer.bias is None else ways + layer.bias.size.unsqueeze(1)
    if rule.gain == "lower":
        both = a.map(lambda t: t.mT).matmul(u, a.size.mT @ ways)
        d = d.minus(both.map(torch.tril).matmul(weight, both.size @ weight.size))
    elif rule.gain != "none":
        other = {"product": u, "activity": None, "square": bare}[rule.gain]
        gain = (a if other is None else a.times(other)).sum(1)
        if rule.gain == "product":
            more = FEW * sums.eps * (a.size * ways).sum(dim=1)
            gain = gain._replace(rad=gain.rad + more)
        d = d.minus(gain.map(lambda t: t.unsqueeze(2)).times(weight))
    positions = u.mid.shape[1]
    if rule.decay:
        d = d.minus(number(rule.decay * positions, sums).times(weight))
    if rule.gain == "product":  # of infinite factors infinite or NaN, by the order of its sums
        infinite = weight.mid.isinf().flatten(1).any(dim=1) | a.mid.isinf().flatten(1).any(dim=1)
        d = d._replace(rad=torch.where(infinite.view(-1, 1, 1), torch.inf, d.rad))
    sums_of_a = a.sum(1)
    delta_w = normalised(d, sums_of_a, positions, rule)
    return Update(delta_w, bias_update(sums_of_a, layer, modulator, positions), statistic(
        bare, a, u, sums_of_a, rule
    ))


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
    lost = d.rad.isinf().any(dim=dims[0], keepdim=True) if len(dims) == 1 else (
        d.rad.isinf().flatten(1).any(dim=1).view(-1, 1, 1)
    )
    return made(mid, torch.where(lost, torch.inf, rad), d.sums)


def bias_update(
    sums_of_a: Ball, layer: Layer, modulator: Ball | None, positions: int
) -> Ball | None:
    rule, sums = layer.rule, layer.sums
    if layer.bias is None or not (layer.competition.soft and rule.learns_bias):
        return None
    exponent = number(layer.competition.t_invert, sums).times(layer.bias)
    prior = exponent.through(torch.exp, FEW)
    prior = prior._replace(
        rad=torch.where(prior.mid < 1 / sums.largest, torch.inf, prior.rad)
    )
    n = number(positions, sums) if modulator is None else modulator.map(torch.flatten).sum(0)
    d = sums_of_a.minus(prior.times(n)).over(prior).map(torch.flatten)
    return over_largest(d, (0,))


def statistic(bare: Ball, a: Ball, u: Ball, sums_of_a: Ball, rule: Rule) -> Ball | None:
    if rule.statistic is None:
        return None
    if rule.statistic == "products":
        return a.map(lambda t: t.mT).matmul(bare).map(lambda t: t.flatten(0, 1))
    found = u.times(u).sum(1) if rule.statistic == "square" else sums_of_a
    return found.map(torch.flatten)


def rates(weight: Ball, rate: Rate, p: float) -> Ball:
    """Of every neuron ``[K]``, of a weight ``[K, N]``."""
    sums = weight.sums
    norm = norms(weight, p)
    distance = norm.minus(number(1.0, sums))
    distance = absolute(distance).plus(number(1e-10, sums))
    q = rate.lr_power
    power = distance.through(lambda t: t.clamp(min=1e-10) ** q, FEW * max(1.0, abs(q)))
    if q < 0:
        power = Ball.between(
            distance.high.clamp(min=1e-10) ** q, distance.low.clamp(min=1e-10) ** q, sums, FEW
        )
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
    return Ball(mid, torch.where(mid.isfinite(), rad, 0.0), weight.sums)


def absolute(t: Ball) -> Ball:
    low = torch.where(t.mid.abs() < t.rad, 0.0, t.mid.abs() - t.rad)
    return Ball.between(low, t.mid.abs() + t.rad, t.sums)


def stepped(weight: Ball, delta_w: Ball, rate: Rate, p: float, dtype: torch.dtype) -> Ball:
    """The weight ``[K, N]`` after a step, in its dtype."""
    own = rates(weight, rate, p)
    step = own.map(lambda t: t.unsqueeze(1)).times(delta_w)
    moved = weight.plus(step)
    if rate.unit_norm:
        norm = norms(moved, p).plus(number(EPSILON, weight.sums))
        unit = moved.over(norm.map(lambda t: t.unsqueeze(1)))
        still = (own.mid == 0).unsqueeze(1)
        moved = Ball(*(torch.where(still, a, b) for a, b in zip(moved[:2], unit[:2], strict=True)), weight.sums)
    return moved.rounded(dtype)


def pooled(u: Ball, epilogue: Epilogue, places: tuple[int, ...]) -> Ball:
    """The epilogue of u, ``[B, K, PH, PW]``."""
    a = of_places(rectified(centred(u) if epilogue.centre else u), places)
    if epilogue.power != 1:
        a = a.through(lambda t: t.clamp(min=0) ** epilogue.power, FEW * max(1, epilogue.power))
    sizes = epilogue.kernel, epilogue.stride, epilogue.padding
    if epilogue.pool == "max":
        return a.through(lambda t: F.max_pool2d(t, *sizes))
    return a.through(lambda t: F.avg_pool2d(t, *sizes), FEW)
