"""Two independent statements of the SoftHebb layer in float64.

``conv2d`` and ``linear`` extract every patch by index arithmetic and spell the rule out in NumPy.
``surrogate_gradient`` obtains the unnormalised update as the gradient of a scalar. Neither uses a
function of the package, of ``torch.nn.functional`` or of ``torch.nn.grad``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Oracle(NamedTuple):
    u: Tensor
    delta_w: Tensor
    delta_b: Tensor | None
    y: Tensor
    d: Tensor  # the update before it is normalised
    condition: float  # how much cancellation in d magnifies rounding
    patches: Tensor  # [B, OH, OW, C, R, S]


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    t_invert: float = 12.0,
    wta: str = "soft_anti",
    delta: float = 2.0,
    rank: int = 3,
    padding_mode: str = "reflect",
    pre_triangle: bool = False,
    lebesgue_p: float = 2.0,
    overwrite: bool = False,
    tie_rule: str = "first",
) -> Oracle:
    assert tie_rule == "first"  # the only one that it knows
    w = weight.detach().double().cpu().numpy()
    patches = _patches(x, w.shape[2:], stride, padding, dilation, padding_mode)
    members = np.split(np.arange(w.shape[0]), groups)
    channels = np.split(np.arange(x.shape[1]), groups)
    product = np.sign(w) * np.abs(w) ** (lebesgue_p - 1)
    u = np.concatenate(
        [
            np.einsum("bhwcrs,kcrs->bkhw", patches[:, :, :, c], product[k])
            for k, c in zip(members, channels, strict=True)
        ],
        axis=1,
    )
    if bias is not None:
        u = u + bias.detach().double().cpu().numpy()[:, None, None]
    if pre_triangle:
        u = np.maximum(u - u.sum(axis=1, keepdims=True) / u.shape[1], 0)
    y, d, normalised, condition = np.zeros_like(u), np.zeros_like(w), np.zeros_like(w), 1.0
    for k, c in zip(members, channels, strict=True):
        y[:, k] = _compete(u[:, k], t_invert, wta, delta, rank, overwrite)
        yx = np.einsum("bkhw,bhwcrs->kcrs", y[:, k], patches[:, :, :, c])
        oja = np.einsum("bkhw,bkhw->k", y[:, k], u[:, k])[:, None, None, None] * w[k]
        d[k] = yx - oja
        largest = np.abs(d[k]).max()
        normalised[k] = d[k] / (largest + 1e-30)
        if largest > 0:
            terms = np.einsum("bkhw,bhwcrs->kcrs", np.abs(y[:, k]), np.abs(patches[:, :, :, c]))
            condition = max(condition, (terms.max() + np.abs(oja).max()) / largest)
    delta_b = None
    if bias is not None and wta in ("soft", "soft_anti"):
        prior = np.exp(t_invert * bias.detach().double().cpu().numpy())
        db = (y.sum(axis=(0, 2, 3)) - prior * (y.size // y.shape[1])) / prior
        delta_b = torch.from_numpy(db / (np.abs(db).max() + 1e-30))
    u, normalised, y, d, patches = map(torch.from_numpy, (u, normalised, y, d, patches))
    return Oracle(u, normalised, delta_b, y, d, float(condition), patches)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options) -> Oracle:
    """A linear layer is a convolution of one-pixel images; hard_anti overwrites the winner."""
    o = conv2d(x[:, :, None, None], weight[:, :, None, None], bias, **options, overwrite=True)
    return o._replace(
        u=o.u[:, :, 0, 0], delta_w=o.delta_w[:, :, 0, 0], y=o.y[:, :, 0, 0], d=o.d[:, :, 0, 0]
    )


def surrogate_gradient(patches: Tensor, y: Tensor, u: Tensor, weight: Tensor, groups: int):
    """The gradient in W of ``sum y <x, W> - sum_k (sum_p y u)_k ||W_k||^2 / 2``: the update D."""
    w = weight.detach().double().requires_grad_()
    per_group = zip(patches.chunk(groups, 3), w.chunk(groups), strict=True)
    products = [torch.einsum("bhwcrs,kcrs->bkhw", p, v) for p, v in per_group]
    attraction = (y * torch.cat(products, dim=1)).sum()
    decay = ((y * u).sum(dim=(0, 2, 3)) * w.flatten(1).square().sum(dim=1)).sum() / 2
    return torch.autograd.grad(attraction - decay, w)[0]


def _patches(x, kernel, stride, padding, dilation, mode) -> np.ndarray:
    source = x.detach().double().cpu().numpy()
    rows, row_inside = _taps(x.shape[2], kernel[0], stride[0], padding[0], dilation[0], mode)
    cols, col_inside = _taps(x.shape[3], kernel[1], stride[1], padding[1], dilation[1], mode)
    taken = source[:, :, rows[:, :, None, None], cols[None, None, :, :]]  # [B, C, OH, R, OW, S]
    inside = row_inside[:, :, None, None] & col_inside[None, None, :, :]
    return np.where(inside, taken, 0.0).transpose(0, 2, 4, 1, 3, 5)


def _taps(n: int, k: int, s: int, p: int, d: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Source index of every output position and tap, ``[out, k]``, and whether it exists."""
    out = (n + 2 * p - d * (k - 1) - 1) // s + 1
    i = np.arange(out)[:, None] * s + np.arange(k)[None, :] * d - p
    inside = np.ones_like(i, dtype=bool)
    if mode == "reflect":
        i = np.abs(i)
        i = np.where(i >= n, 2 * (n - 1) - i, i)
    elif mode == "circular":
        i = i % n
    else:
        if mode == "zeros":
            inside = (i >= 0) & (i < n)
        i = np.clip(i, 0, n - 1)
    return i, inside


def _compete(u: np.ndarray, t: float, wta: str, delta: float, rank: int, overwrite: bool):
    channel = np.arange(u.shape[1])[None, :, None, None]
    wins = channel == u.argmax(axis=1)[:, None]
    if wta in ("soft", "soft_anti"):
        e = np.exp(t * (u - u.max(axis=1, keepdims=True)))
        p = e / e.sum(axis=1, keepdims=True)
        return p if wta == "soft" else np.where(wins, p, -p)
    y = wins.astype(u.dtype)
    if wta == "hard":
        return y
    ranked = np.argsort(-u, axis=1, kind="stable")[:, rank - 1]
    loses = channel == ranked[:, None]
    return np.where(loses, -delta, y) if overwrite else y - delta * loses
