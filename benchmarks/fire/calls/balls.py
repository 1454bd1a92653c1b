"""Numbers with a bound of what rounding does to them: a middle and a radius, in float64.

Every operation adds the rounding of its own. A radius of infinity says that a sum may have left the
range of its dtype, so that nothing is known. A middle that is not finite, with a radius of 0, is
what the definition says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FEW = 16  # roundings of an elementwise function: a quotient, a power, an exponential


class Sums(NamedTuple):
    """How numbers are added up.

    Attributes:
        eps: half of the distance from 1 to the next number.
        tiny: what is smaller may count as 0.
        largest: what is larger may be infinite.
    """

    eps: float
    tiny: float
    largest: float

    @classmethod
    def of(cls, dtype: torch.dtype) -> Sums:
        """Of the sums of numbers in ``dtype``: of float64 float64, in which balls round as much
        themselves, else float32."""
        wide = dtype == torch.float64
        info = torch.finfo(torch.float64 if wide else torch.float32)
        return cls(info.eps * (2 if wide else 0.5), info.tiny, info.max / 8)


class Ball(NamedTuple):
    mid: Tensor
    rad: Tensor
    sums: Sums

    @classmethod
    def given(cls, values: Tensor, sums: Sums) -> Ball:
        """What a caller hands over; denormal numbers may be taken as 0."""
        mid = values.detach().double()
        return cls(mid, torch.where(mid.abs() < sums.tiny, mid.abs(), 0.0), sums)

    @classmethod
    def between(cls, low: Tensor, high: Tensor, sums: Sums, roundings: float = 0) -> Ball:
        exact = low == high  # of infinities, too
        mid = torch.where(exact, low, (low + high) / 2)
        return made(mid, torch.where(exact, 0.0, (high - low) / 2), sums, roundings)

    @property
    def low(self) -> Tensor:
        return self.mid - self.rad

    @property
    def high(self) -> Tensor:
        return self.mid + self.rad

    @property
    def size(self) -> Tensor:
        """The largest magnitude; 0 of what is not finite."""
        return _finite(self.mid.abs()) + self.rad

    @property
    def may_vanish(self) -> Tensor:
        """1 where it holds 0, and other numbers, else 0."""
        return ((self.rad > 0) & (self.mid.abs() <= self.rad)).double()

    def map(self, function: Callable[[Tensor], Tensor]) -> Ball:
        """Moved, not changed: a view or a selection."""
        return self._replace(mid=function(self.mid), rad=function(self.rad))

    def through(self, function: Callable[[Tensor], Tensor], roundings: float = 0) -> Ball:
        """By a function that does not fall anywhere."""
        return Ball.between(function(self.low), function(self.high), self.sums, roundings)

    def power(self, p: float, least: float = 0.0) -> Ball:
        """Of what is at least ``least``; the exponent is rounded, too."""
        ends = (self.low.clamp(min=least) ** p, self.high.clamp(min=least) ** p)
        found = Ball.between(*(ends if p > 0 else ends[::-1]), self.sums, FEW * max(1, abs(p)))
        logarithm = _finite(self.mid.abs().clamp(min=least).log().abs())
        more = 2 * abs(p) * self.sums.eps * logarithm * found.size
        return found._replace(rad=found.rad + more)

    def plus(self, other: Ball, sign: int = 1) -> Ball:
        mid = self.mid + other.mid if sign > 0 else self.mid - other.mid
        rad = self.rad + other.rad
        rad = torch.where(self.size + other.size > self.sums.largest, torch.inf, rad)
        return made(mid, rad, self.sums, 2)

    def minus(self, other: Ball) -> Ball:
        return self.plus(other, -1)

    def times(self, other: Ball) -> Ball:
        rad = _apart(self, other, torch.mul)
        whole = _finite(self.mid.abs()) * _finite(other.mid.abs())
        rad = torch.where(whole > self.sums.largest, torch.inf, rad)
        return made(self.mid * other.mid, rad + _flushed(whole, 1, self.sums), self.sums, 2)

    def over(self, other: Ball) -> Ball:
        least = other.mid.abs() - other.rad
        mid = self.mid / other.mid
        rad = (self.rad + _finite(mid.abs()) * other.rad) / least
        zero = (self.size == 0) & (least > 0)
        rad = torch.where(zero, 0.0, torch.where(least > 0, rad, torch.inf))
        known = ~other.mid.isfinite() & (other.rad == 0)
        return made(mid, torch.where(known, 0.0, rad), self.sums, FEW)

    def sum(self, dim: int) -> Ball:
        size, n = self.size.sum(dim), (self.size != 0).double().sum(dim)
        rad = self.rad.sum(dim) + _growth(n) * self.sums.eps * size
        rad = torch.where(size > self.sums.largest, torch.inf, rad)
        return made(self.mid.sum(dim), rad, self.sums)

    def matmul(self, other: Ball, ways: Tensor | None = None) -> Ball:
        """``self [..., P, N] @ other [..., N, K]``; ``ways`` is more of the sizes that are added,
        where they may be added in another way."""
        a, b = _finite(self.mid.abs()), _finite(other.mid.abs())
        whole = a @ b
        n = (a != 0).double() @ (b != 0).double()
        rad = _apart(self, other, torch.matmul)
        most = whole if ways is None else torch.maximum(whole, ways)
        rad = rad + _growth(n) * self.sums.eps * most + _flushed(most, n, self.sums)
        rad = torch.where(most > self.sums.largest, torch.inf, rad)
        return made(self.mid @ other.mid, rad, self.sums)

    def rounded(self, dtype: torch.dtype, terms: int = 1) -> Ball:
        """As an output in ``dtype``, or as the sum of so many of its numbers."""
        if dtype == torch.float64 or dtype == torch.float32:
            return self
        info = torch.finfo(dtype)
        size = self.size
        rad = (
            self.rad
            + size * (info.eps / 2) ** terms
            + torch.clamp(size, max=info.smallest_normal * info.eps)
        )
        least = _finite(self.mid.abs()) - rad
        infinite = (least > info.max * (1 + info.eps)) & self.rad.isfinite()
        rad = torch.where(size + rad >= info.max, torch.inf, rad)
        mid = torch.where(infinite, torch.inf * self.mid.sign(), self.mid)
        return Ball(mid, torch.where(infinite, 0.0, rad), self.sums)

    def maybe_rounded(self, dtype: torch.dtype, terms: int = 1) -> Ball:
        """As it is, or as it is in ``dtype``, where it may be infinite."""
        rounded = self.rounded(dtype, terms)
        infinite = rounded.mid.isinf() & self.mid.isfinite()
        return self._replace(rad=torch.where(infinite, torch.inf, rounded.rad))


def number(value: float | Tensor, sums: Sums) -> Ball:
    """One that is taken in the dtype of the sums."""
    mid = torch.as_tensor(value, dtype=torch.float64)
    return Ball(mid, mid.abs().nan_to_num(0, 0, 0) * sums.eps, sums)


def made(mid: Tensor, rad: Tensor, sums: Sums, roundings: float = 0) -> Ball:
    size = _finite(mid.abs())
    rad = rad + roundings * sums.eps * size
    rad = rad + torch.clamp(size + rad, max=sums.tiny)
    rad = torch.where(rad.isnan() | (size + rad > sums.largest), torch.inf, rad)
    return Ball(mid, torch.where(mid.isfinite() | rad.isposinf(), rad, 0.0), sums)


def _apart(a: Ball, b: Ball, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """How far a product of balls is from that of their middles; NaN, from infinity times what may
    be 0, is not known."""
    rad = product(_finite(a.mid.abs()), b.rad) + product(a.rad, _finite(b.mid.abs()) + b.rad)
    spoilt = product(a.may_vanish, b.mid.isinf().double())
    spoilt = spoilt + product(a.mid.isinf().double(), b.may_vanish)
    return torch.where(rad.isnan() | (spoilt > 0), torch.inf, rad)


def _flushed(size: Tensor, n: Tensor | int, sums: Sums) -> Tensor:
    return torch.minimum(size, torch.as_tensor(n * sums.tiny, dtype=torch.float64))


def _growth(n: Tensor) -> Tensor:
    return 4 + n


def _finite(t: Tensor) -> Tensor:
    return torch.where(t.isfinite(), t, 0.0)
