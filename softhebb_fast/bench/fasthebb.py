"""Hebbian rules as FastHebb writes them in eager PyTorch, and as they are written without it.

Both unfold the input into a matrix of patches, ``x [N, S]`` over N positions, and make a step of

    u = x W^T        D = A^T x - G W

``matrix`` is FastHebb's formulation: the sum over the batch is part of the matrix products, so that
no tensor of ``[N, K, S]`` is formed. ``naive`` forms it: what every neuron asks for at every
position, then the sum, some positions at a time where memory ends.

Written afresh from the formulas of Lagani et al. 2022 (FastHebb: Scaling Hebbian Training of Deep
Neural Networks to ImageNet Level, arXiv 2207.03172). The step is that of ``options.Rule``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.bench import eager
from softhebb_fast.bench.cases import Part

Update = Callable[[Part, Tensor, Tensor, Tensor], Tensor]
RULES = ("softhebb", "instar", "hebb", "oja", "sanger")
MOST = 1 << 26  # elements of a tensor that ``naive`` forms: 256 MiB


def matrix(part: Part, x: Tensor, u: Tensor, weight: Tensor) -> Tensor:
    """D ``[K, S]`` from patches ``[N, S]``, u ``[N, K]`` and filters ``[K, S]``."""
    a = _activity(part, u)
    hebb = a.t() @ x
    match part.kind.gain:
        case "none":
            return hebb
        case "lower":
            return hebb - (a.t() @ u).tril_() @ weight
        case "activity":
            return hebb - a.sum(dim=0).unsqueeze(1) * weight
        case "product":
            return hebb - (a * u).sum(dim=0).unsqueeze(1) * weight


def naive(part: Part, x: Tensor, u: Tensor, weight: Tensor) -> Tensor:
    """D as ``matrix`` gives it, summed from what every position asks for."""
    total = torch.zeros_like(weight)
    size = max(1, MOST // weight.numel())
    chunks = (t.split(size) for t in (x, u, _activity(part, u)))
    for some_x, some_u, a in zip(*chunks, strict=True):
        total += (a.unsqueeze(2) * _towards(part, some_x, some_u, weight)).sum(dim=0)
    return total


def learn(part: Part, x: Tensor, weight: Tensor, update: Update) -> Tensor:
    """u of a layer; steps ``weight`` in place by what ``update`` makes of its patches."""
    patches, rows = _patches(x, part, weight), weight.flatten(1)
    u = patches @ rows.t()
    d = update(part, patches, u, rows)
    if part.kind.normalise == "max":
        d /= torch.linalg.vector_norm(d, float("inf")) + 1e-30
    else:
        d /= len(patches)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows += part.layer.lr * ((norms - 1).abs() + 1e-10) ** part.lr_power * d
    return u if weight.dim() == 2 else u.unflatten(0, (len(x), *part.map)).permute(0, 3, 1, 2)


def _patches(x: Tensor, part: Part, weight: Tensor) -> Tensor:
    """The input unfolded, ``[N, S]``."""
    x = eager.prepared(part, x, weight)
    if weight.dim() == 2:
        return x
    return F.unfold(x, weight.shape[2:]).transpose(1, 2).flatten(0, 1)


def _activity(part: Part, u: Tensor) -> Tensor:
    """A ``[N, K]``."""
    return u if part.kind.activity == "linear" else eager.competition(part.competition, u)


def _towards(part: Part, x: Tensor, u: Tensor, weight: Tensor) -> Tensor:
    """What the activity of a neuron at a position multiplies, ``[N, K, S]`` or ``[N, 1, S]``."""
    x = x.unsqueeze(1)
    match part.kind.gain:
        case "none":
            return x
        case "lower":  # less what a neuron and those before it reconstruct
            return x - (u.unsqueeze(2) * weight).cumsum(dim=1)
        case "activity":
            return x - weight
        case "product":
            return x - u.unsqueeze(2) * weight
