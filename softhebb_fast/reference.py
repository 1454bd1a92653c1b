"""The SoftHebb layer in plain PyTorch: literal, slow on purpose, the executable definition.

For an input x, filters W and output positions p = (batch, row, column),

    u[p, k] = <x_p, W_k>                          the pre-activation, which the layer returns
    y[p, k] = s[p, k] softmax_k(t u[p, k])        the competition, s = -1 for losers ("soft_anti")
    D[k]    = sum_p y[p, k] x_p - (sum_p y[p, k] u[p, k]) W_k
    delta_w = D / (max |D| + 1e-30)               an ascent direction: W += rate * delta_w

Journé et al. 2023, "Hebbian Deep Learning Without Feedback" (arXiv 2209.11883), equations 1 and 2.
Every function runs on CPU and CUDA. float64 stays float64; float32, float16 and bfloat16 inputs
are computed in float32. The arguments are taken as valid: ``softhebb_fast.functional`` checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.options import CONVOLUTION, Competition, Convolution, Epilogue, Rate

EPSILON = 1e-30
Total = Callable[[Tensor], Tensor]


class SoftHebbOutput(NamedTuple):
    """What one Hebbian forward pass gives.

    Attributes:
        u: pre-activations before the update, ``[B, K, OH, OW]`` or ``[..., K]``, in the dtype of x.
        delta_w: normalised ascent direction, of the shape and dtype of the weight, at most 1
            (each group of channels is normalised by its own maximum).
        delta_b: ascent direction of the bias, ``[K]``, over its largest magnitude in all
            groups; None without a bias or for hard competitions.
    """

    u: Tensor
    delta_w: Tensor
    delta_b: Tensor | None


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    total: Total | None = None,
) -> SoftHebbOutput:
    """Convolution, competition and update of one batch ``x [B, C, H, W]``.

    ``total`` adds up what the parts of a larger batch ask for, of which x is one.
    """
    x_c, w_c, b_c = (None if t is None else accumulated(t) for t in (x, weight, bias))
    x_c = pad(x_c, convolution.padding, convolution.padding_mode)
    wt = lebesgue_weight(w_c, competition.lebesgue_p)
    stride, _, dilation, groups, *_ = convolution
    u = F.conv2d(x_c, wt, b_c, stride, 0, dilation, groups)
    if convolution.pre_triangle:
        u = F.relu(u - u.mean(dim=1, keepdim=True))
    with torch.no_grad():
        y = soft_wta(u, competition, groups=groups)
        d = hebbian_update(x_c, y, u, w_c, convolution, total)
        b = None if b_c is None else bias_update(y, b_c, competition, total)
    return _as_output(x, weight, bias, u, d, b)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    competition: Competition,
    total: Total | None = None,
) -> SoftHebbOutput:
    """Matrix product, competition and update of one batch ``x [B, N]``, as ``conv2d``."""
    x_c, w_c, b_c = (None if t is None else accumulated(t) for t in (x, weight, bias))
    u = F.linear(x_c, lebesgue_weight(w_c, competition.lebesgue_p), b_c)
    with torch.no_grad():
        y = soft_wta(u, competition, overwrite=True)
        d = hebbian_update(x_c, y, u, w_c, total=total)
        b = None if b_c is None else bias_update(y, b_c, competition, total)
    return _as_output(x, weight, bias, u, d, b)


@torch.no_grad()
def conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
) -> tuple[Tensor, Tensor | None]:
    """``conv2d``, then ``hebbian_step_``: u and the direction of the bias."""
    out = conv2d(x, weight, bias, convolution, competition)
    hebbian_step_(weight, out.delta_w, rate.base, rate.lr_power, competition.lebesgue_p)
    return out.u, out.delta_b


@torch.no_grad()
def linear_step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, rate: Rate, competition: Competition
) -> tuple[Tensor, Tensor | None]:
    """``linear``, then ``hebbian_step_``: u and the direction of the bias."""
    out = linear(x, weight, bias, competition)
    hebbian_step_(weight, out.delta_w, rate.base, rate.lr_power, competition.lebesgue_p)
    return out.u, out.delta_b


@torch.no_grad()
def block_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
) -> Tensor:
    """The epilogue of ``conv2d``'s u."""
    return epilogue.apply(conv2d(x, weight, bias, convolution, competition).u)


@torch.no_grad()
def block_update(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The epilogue of ``conv2d``'s u, delta_w and delta_b."""
    out = conv2d(x, weight, bias, convolution, competition)
    return epilogue.apply(out.u), out.delta_w, out.delta_b


@torch.no_grad()
def block_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
) -> tuple[Tensor, Tensor | None]:
    """``conv2d_step_`` with the epilogue of u instead of u."""
    u, delta_b = conv2d_step_(x, weight, bias, rate, convolution, competition)
    return epilogue.apply(u), delta_b


def pad(x: Tensor, padding: tuple[int, int], mode: str) -> Tensor:
    """Pad rows by ``padding[0]`` and columns by ``padding[1]`` on both sides."""
    if padding == (0, 0):
        return x
    rows, columns = padding
    return F.pad(x, (columns, columns, rows, rows), "constant" if mode == "zeros" else mode)


def lebesgue_weight(weight: Tensor, lebesgue_p: float) -> Tensor:
    """``sign(W) |W|^(p - 1)``, which is W itself for p = 2."""
    if lebesgue_p == 2:
        return weight
    return weight.sign() * weight.abs() ** (lebesgue_p - 1)


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


def hebbian_update(
    x: Tensor,
    y: Tensor,
    u: Tensor,
    weight: Tensor,
    convolution: Convolution = CONVOLUTION,
    total: Total | None = None,
) -> Tensor:
    """The normalised ascent direction, of the shape of ``weight``.

    ``x`` is the input as the product saw it: padded ``[B, C, H, W]``, or ``[B, N]``.
    """
    stride, _, dilation, groups, *_ = convolution
    if weight.dim() == 4:
        yx = torch.nn.grad.conv2d_weight(x, weight.shape, y, stride, 0, dilation, groups)
        yx = yx.contiguous()
        yu = (y * u).sum(dim=(0, 2, 3)).view(-1, 1, 1, 1)
    else:
        yx = y.t() @ x
        yu = (y * u).sum(dim=0).view(-1, 1)
    d = yx - yu * weight
    d = d if total is None else total(d)
    largest = d.reshape(groups, -1).abs().amax(dim=1)
    per_neuron = largest.repeat_interleave(weight.shape[0] // groups)
    return d / (per_neuron.view(-1, *[1] * (weight.dim() - 1)) + EPSILON)


def bias_update(
    y: Tensor, bias: Tensor, competition: Competition, total: Total | None = None
) -> Tensor | None:
    """``(sum_p y - e^(t b) n) / e^(t b)`` over n positions, divided by its largest magnitude.

    Hard competitions have no rule for the bias: None.
    """
    if not competition.soft:
        return None
    positions = y.numel() // y.shape[1]
    prior = torch.exp(competition.t_invert * bias)
    d = (y.transpose(0, 1).flatten(1).sum(dim=1) - prior * positions) / prior
    d = d if total is None else total(d)
    return d / (d.abs().max() + EPSILON)


def norm_dependent_rate(
    weight: Tensor, lr: float | Tensor, lr_power: float = 0.5, lebesgue_p: float = 2.0
) -> Tensor:
    """``lr (| ||W_k|| - 1 | + 1e-10)^q`` for every neuron k, ``[K]``."""
    w = accumulated(weight).flatten(1)
    norm = torch.linalg.vector_norm(w, ord=lebesgue_p, dim=1)
    # Powers of large weights leave float32; elsewhere the published rule's rounding is kept.
    wide = torch.linalg.vector_norm(w, ord=lebesgue_p, dim=1, dtype=torch.float64).to(w.dtype)
    norm = torch.where(norm.isfinite(), norm, wide)
    return lr * ((norm - 1).abs() + 1e-10) ** lr_power


@torch.no_grad()
def hebbian_step_(
    weight: Tensor,
    delta_w: Tensor,
    lr: float | Tensor,
    lr_power: float = 0.5,
    lebesgue_p: float = 2.0,
) -> Tensor:
    """``W += rate * delta_w`` in place, the rate from the norms of W before the step."""
    rate = norm_dependent_rate(weight, lr, lr_power, lebesgue_p)
    return weight.add_(rate.view(-1, *[1] * (weight.dim() - 1)) * delta_w)


def accumulated(t: Tensor) -> Tensor:
    """``t`` in the dtype of the sums: float64 as it is, everything else in float32."""
    return t if t.dtype == torch.float64 else t.float()


def _as_output(
    x: Tensor, weight: Tensor, bias: Tensor | None, u: Tensor, d: Tensor, b: Tensor | None
) -> SoftHebbOutput:
    return SoftHebbOutput(
        u.to(x.dtype), d.to(weight.dtype), None if b is None else b.to(bias.dtype)
    )
