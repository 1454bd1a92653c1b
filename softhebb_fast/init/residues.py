"""Zeros and a few ones, laid out as the power residues of a prime: deterministic and scattered."""

from __future__ import annotations

import math
from itertools import count

import torch
from torch import Tensor

from softhebb_fast.init.common import check_positive, fan_in
from softhebb_fast.init.diversity import check_weight
from softhebb_fast.scalars import whole

LARGEST = 2**31  # entries of which the square of a number still is an int64


@torch.no_grad()
def residue_binary_(weight: Tensor, radius: float = 25.0, every: int = 16) -> Tensor:
    """About one entry in `every` of each filter is s = radius/√(N/every), all others are zero.

    Entry n of filter k stands for the number x = kN + n + 1. It is s where x is a power with the
    exponent `every` modulo p, x^((p-1)/every) = 1, with p the least prime above KN that is 1 modulo
    `every`. Such numbers lie as if they were drawn: no filter repeats in another, and none looks
    for one frequency. Norms lie around `radius`. The fewer ones filters have, the less of each is
    what all of them share.

    Raises ValueError for a radius that is not positive and finite; for an `every` below 2, and one
    that leaves filters equal or without ones; and for weights of 2^31 entries or more.

    Source: this project; quadratic residues in the place of random signs are Paley's (1933).
    """
    check_weight(weight)
    radius, every = check_positive("radius", radius), whole("every", every, 2)
    filters, elements = weight.shape[0], fan_in(weight)
    if filters * elements >= LARGEST:
        raise ValueError(f"weight must have fewer than 2^31 entries; got {tuple(weight.shape)}")
    prime = next(p for p in count(every + 1, every) if p > filters * elements and _is_prime(p))
    numbers = torch.arange(1, filters * elements + 1, device="cpu")
    ones = (_power(numbers, (prime - 1) // every, prime) == 1).view(filters, elements)
    if len(ones.unique(dim=0)) < filters or not ones.any(1).all():
        raise ValueError(
            f"every must be smaller for {filters} filters of {elements} elements: some would be "
            f"equal or without ones; got {every}"
        )
    return weight.copy_(ones.view_as(weight)).mul_(radius / math.sqrt(elements / every))


def _power(numbers: Tensor, exponent: int, modulus: int) -> Tensor:
    """``numbers ** exponent`` modulo ``modulus``, int64, by repeated squaring."""
    found = torch.ones_like(numbers)
    while exponent:
        if exponent & 1:
            found = found * numbers % modulus
        numbers, exponent = numbers * numbers % modulus, exponent >> 1
    return found


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
