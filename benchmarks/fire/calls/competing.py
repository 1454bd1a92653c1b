"""Who wins, and the softmax, of pre-activations in balls ``[G, P, K]``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.fire.calls.balls import FEW, Ball
from softhebb_fast.options import Competition


class Backend(NamedTuple):
    """In what a backend is less exact than a sum in any order.

    Attributes:
        y_eps: how y is rounded before it is multiplied, in 16-bit layers.
        y_tiny: and by how much at most where it is below their normal numbers.
        winograd: sums of a tile share their rounding.
        nan_loses: a neuron whose u alone is NaN need not win.
        own_biases: a bias that is not finite may leave the direction of others finite.
        knows_signs: an infinite weight to the power of 0 is its sign.
        product: the dtype to which the weight of the product is rounded, if it is.
        terms: of how many such numbers it is the sum, and what of u is kept.
        own_products: what is not finite is in all of its sums, and in no others.
    """

    y_eps: float = 0.0
    y_tiny: float = 0.0
    winograd: bool = False
    product: torch.dtype = torch.float64
    terms: int = 1
    own_products: bool = True
    nan_loses: bool = False
    own_biases: bool = False
    knows_signs: bool = True


def rounded_activity(y: Ball, backend: Backend) -> Ball:
    more = y.size * backend.y_eps + y.size.clamp(max=backend.y_tiny)
    return y._replace(rad=y.rad + more)


def softmax(u: Ball, competition: Competition, backend: Backend) -> Ball:
    """Of u in any place of its balls."""
    t, eps = competition.t_invert, u.sums.eps
    largest = u.mid.amax(dim=2, keepdim=True)
    z = t * (u.mid - largest)
    off = t * u.rad + 4 * eps * torch.where(z.isfinite(), z.abs(), 0)
    least = torch.sigmoid(z - off - _log_sum_of_others(z + off))
    most = torch.sigmoid(z + off - _log_sum_of_others(z - off))
    unknown = (u.rad.isinf() | off.isinf()).any(dim=2, keepdim=True)
    bad = z.isnan().any(dim=2, keepdim=True) & ~unknown
    exact = torch.softmax(z, dim=2)  # which is not 0 yet where a sigmoid is
    least = torch.where(bad, exact, torch.where(unknown, 0.0, torch.minimum(least, exact)))
    most = torch.where(bad, exact, torch.where(unknown, 1.0, torch.maximum(most, exact)))
    found = Ball.between(least, most, u.sums, FEW)
    lost = u.rad.isinf().any(dim=2, keepdim=True)
    return found._replace(rad=torch.where(lost, torch.inf, found.rad))


def _log_sum_of_others(z: Tensor) -> Tensor:
    """``ln sum e^z`` over all neurons but each."""
    own = torch.eye(z.shape[-1], dtype=torch.bool)
    return z.unsqueeze(-2).masked_fill(own, -torch.inf).logsumexp(dim=-1)


def compete(u: Ball, c: Competition, backend: Backend, overwrite: bool = False) -> Ball:
    """y; ``overwrite`` is the linear layer's form of ``"hard_anti"``."""
    if c.soft and not c.anti:
        return softmax(u, c, backend)
    surely, maybe = above(u, c.tie_rule == "spread")
    first, may_be_first = maybe == 0, surely == 0
    if c.soft:
        p = softmax(u, c, backend)
        high = torch.where(may_be_first, p.high, -p.low)
        low = torch.where(first, p.low, -p.high)
        found = Ball.between(low, high, u.sums)
    else:
        low, high = first.double(), may_be_first.double()
        if c.ranks:
            r = c.rank - 1
            loses, may_lose = (surely == r) & (maybe == r), (surely <= r) & (r <= maybe)
            lost = torch.tensor(-c.delta, dtype=torch.float64)
            values = torch.stack([low, high, low, high])
            values[2:] = lost if overwrite else values[2:] + lost
            values[:2] = torch.where(loses, values[2:], values[:2])
            values[2:] = torch.where(may_lose, values[2:], values[:2])
            low, high = values.amin(dim=0), values.amax(dim=0)
        found = Ball.between(low, high, u.sums, 2)
        exact = 2 * u.sums.eps * low.abs()
        found = found._replace(rad=torch.where(low == high, exact, found.rad))
    lost = torch.zeros_like(found.mid, dtype=torch.bool)  # 0, 1 and -delta, whatever u is
    if backend.nan_loses:
        lost = lost | u.mid.isnan().any(dim=2, keepdim=True)
    if c.soft:
        lost = lost | u.rad.isinf().any(dim=2, keepdim=True) | p.rad.isinf()
        spoilt = ~p.mid.isfinite() & ~lost
        mid, rad = torch.where(spoilt, p.mid, found.mid), torch.where(spoilt, 0.0, found.rad)
        found = found._replace(mid=mid, rad=rad)
    return found._replace(rad=torch.where(lost, torch.inf, found.rad))


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

    (low_j, low_k), high_k = pairs(low), pairs(high)[1]
    (exact_j, exact_k), (nan_j, nan_k) = pairs(exact), pairs(nan & ~unknown)
    same = exact_j & exact_k & (low_j == low_k) & (nan_j == nan_k)
    beats = (low_j > high_k) | (nan_j & ~nan_k & ~pairs(unknown)[1])
    if not spread:
        beats = beats | (same & earlier)
    surely = beats.sum(dim=2)
    beaten = beats.mT.sum(dim=2)  # how many k surely beats
    return surely, u.mid.shape[2] - 1 - beaten
