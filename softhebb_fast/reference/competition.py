"""Competition: who of the neurons of a position learns, and with which sign."""

from __future__ import annotations

import torch
from torch import Tensor

from softhebb_fast.options import Competition


def soft_wta(
    u: Tensor, competition: Competition, *, groups: int = 1, overwrite: bool = False
) -> Tensor:
    """The competition variable y of pre-activations ``u [B, K, ...]``, neurons in dimension 1.

    ``overwrite`` is the linear layer's form of ``"hard_anti"``.
    """
    if groups > 1:
        parts = u.chunk(groups, dim=1)
        return torch.cat([soft_wta(p, competition, overwrite=overwrite) for p in parts], dim=1)
    soft, anti = competition.soft, competition.anti
    p = None
    if soft:  # t (u - max u): t u alone may overflow
        p = torch.softmax(competition.t_invert * (u - u.detach().amax(1, keepdim=True)), dim=1)
    if soft and not anti:
        return p
    winner = winners(u, competition.tie_rule)
    if soft:
        return (-p).scatter(1, winner, p.gather(1, winner))
    y = torch.zeros_like(u).scatter(1, winner, 1.0)
    if not anti:
        return y
    order = u.sort(dim=1, descending=True, stable=True).indices
    first = (order == winner).byte().sort(dim=1, descending=True, stable=True).indices
    loser = order.gather(1, first).narrow(1, competition.rank - 1, 1)
    if overwrite:
        return y.scatter(1, loser, -competition.delta)
    return y.scatter_add(1, loser, torch.full_like(loser, -competition.delta, dtype=u.dtype))


def winners(u: Tensor, tie_rule: str = "first") -> Tensor:
    """The neuron with the largest ``u [B, K, ...]`` at every position, ``[B, 1, ...]``.

    Of n neurons with the same u, or with NaN, ``"first"`` takes the first and ``"spread"`` the
    (h mod n)-th, h the hash of the position's index (batch, row, column) in the batch.
    """
    if tie_rule == "first":
        return u.argmax(dim=1, keepdim=True)
    tied = (u == u.amax(dim=1, keepdim=True)) | u.isnan()
    turn = position_hashes(u) % tied.sum(dim=1, keepdim=True)
    return (tied & (tied.cumsum(dim=1) == turn + 1)).byte().argmax(dim=1, keepdim=True)


def position_hashes(u: Tensor) -> Tensor:
    """32 mixed bits for every position of ``u [B, K, ...]``, int64 ``[B, 1, ...]``."""
    h = torch.arange(u.numel() // u.shape[1], device=u.device).view(u.shape[0], 1, *u.shape[2:])
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97), (15, 1)):
        h = (h ^ (h >> shift)) * factor & 0xFFFFFFFF
    return h
