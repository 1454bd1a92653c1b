"""ZerO and the identities it begins with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from softhebb_fast.init.common import centre, check_positive
from softhebb_fast.init.diversity import check_weight
from softhebb_fast.init.hadamard import hadamard_signs

ZERO_SCALES = ("algorithm2", "orthonormal", "fork")


@torch.no_grad()
def zerO_(weight: Tensor, scale: str = "algorithm2", radius: float | None = None) -> Tensor:
    """ZerO: a deterministic start from identity and Hadamard matrices (Zhao et al. 2022).

    With K rows and C columns (C/g for a grouped convolution), K <= C gives the partial identity;
    K > C gives the first K rows and C columns of the Sylvester-Hadamard matrix of size 2^m,
    m = ceil(log2 K), times a constant. A convolution carries this matrix at its tap (R//2, S//2),
    also where R or S is even, and is zero elsewhere. The constant, by `scale`:

    - "algorithm2": 2^(-(m-1)/2), as Zhao et al. write Algorithm 1 (linear) and 2 (convolution).
    - "orthonormal": 2^(-m/2), which makes the full Hadamard matrix orthonormal.
    - "fork": what the published ZerO-SoftHebb code computes (Le, Xu, Zhuang): both constants
      multiplied for a convolution, 2^(-(2m-1)/2), and 2^(-m/2) for a linear weight.

    `radius` replaces the constant, and the ones of the identity, so that every filter has this
    2-norm; SoftHebb starts at 25, ZerO itself below 1. Beware: in the Hadamard case only
    min(K, 2^ceil(log2 C)) filters are distinct, see `distinct_filters`.

    Raises ValueError for an unknown scale or a radius that is not positive and finite.
    """
    check_weight(weight)
    if scale not in ZERO_SCALES:
        raise ValueError(f"scale must be one of {', '.join(ZERO_SCALES)}; got {scale=}")
    if radius is not None:
        radius = check_positive("radius", radius)
    rows, columns = weight.shape[:2]
    if rows <= columns:
        return partial_identity_(weight).mul_(1.0 if radius is None else radius)
    log_size = (rows - 1).bit_length()
    if radius is not None:
        magnitude = radius / math.sqrt(columns)
    elif scale == "algorithm2":
        magnitude = 2 ** (-(log_size - 1) / 2)
    elif scale == "orthonormal" or weight.dim() == 2:
        magnitude = 2 ** (-log_size / 2)
    else:
        magnitude = 2 ** (-(2 * log_size - 1) / 2)
    device = weight.device
    signs = hadamard_signs(torch.arange(rows, device=device), torch.arange(columns, device=device))
    weight.zero_()
    centre(weight).copy_(signs).mul_(magnitude)
    return weight


def identity_(weight: Tensor) -> Tensor:
    """Neuron k copies input k: ones on the diagonal, for a convolution at the tap (R//2, S//2).

    Raises ValueError unless there are as many neurons as input channels (per group).
    """
    check_weight(weight)
    if weight.shape[0] != weight.shape[1]:
        raise ValueError(
            "weight must have as many filters as input channels for 'identity', "
            f"got {tuple(weight.shape)}; use 'partial_identity' or 'zerO'"
        )
    return partial_identity_(weight)


@torch.no_grad()
def partial_identity_(weight: Tensor) -> Tensor:
    """Like `identity_` for any shape: the neurons beyond the last input channel are all zero."""
    check_weight(weight)
    weight.zero_()
    centre(weight).diagonal().fill_(1.0)
    return weight
