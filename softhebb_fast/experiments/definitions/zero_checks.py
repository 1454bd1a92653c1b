"""What can be measured of ZerO's start without training."""

from __future__ import annotations

import torch

from softhebb_fast.init import apply, zerO_
from softhebb_fast.models import network

SIZES = tuple((1 << m, columns) for m in (1, 3, 6, 10) for columns in (1, (1 << m) // 2))
CHANNELS = ((64, 3), (64, 64), (96, 64), (128, 200), (384, 96))


def orthonormal() -> float:
    """The largest error of WᵀW from the identity, W of 2^m rows and at most half as many columns,
    where W is Hadamard's."""
    errors = []
    for rows, columns in SIZES:
        weight = zerO_(torch.empty(rows, columns, dtype=torch.float64), "orthonormal")
        errors.append(float((weight.T @ weight - torch.eye(columns)).abs().max()))
    return max(errors)


def entries() -> float:
    """How many entries are none of 0, 1 and ±2^(-m/2), m the bits of K - 1."""
    wrong = 0
    for rows, columns in CHANNELS:
        weight = zerO_(torch.empty(rows, columns, 3, 3), "orthonormal")
        magnitude = torch.tensor(2 ** (-(rows - 1).bit_length() / 2))
        allowed = torch.stack([torch.tensor(0.0), torch.tensor(1.0), magnitude, -magnitude])
        wrong += int((~torch.isin(weight, allowed)).sum())
    return float(wrong)


def builds() -> float:
    """In how many entries two starts of a ResNet-18 from different weights differ."""
    nets = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = network("resnet", (3, 32, 32), 10)
        nets.append(apply(net, "zerO").model.state_dict())
    return float(sum(int((a != b).sum()) for a, b in zip(*(n.values() for n in nets), strict=True)))


CHECKS = {"orthonormal": orthonormal, "entries": entries, "builds": builds}
