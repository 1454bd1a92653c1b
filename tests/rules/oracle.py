"""Every rule in float64, from its formula: patches by index, sums by einsum.

Nothing here is a function of the package, of ``torch.nn.functional`` or of ``torch.nn.grad``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.oracle import _patches


class Learned(NamedTuple):
    u: Tensor
    delta_w: Tensor
    statistic: Tensor | None
    condition: float  # how much cancellation in D magnifies rounding


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rule: str,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    padding_mode: str = "reflect",
    t: float = 1.0,
    p: float = 2.0,
    wta: str = "soft_anti",
    delta: float = 0.4,
    rank: int = 2,
    overwrite: bool = False,
    normalise: str = "none",
    decay: float = 0.0,
    modulator: Tensor | None = None,
    target: Tensor | None = None,
    threshold: Tensor | None = None,
    counts: Tensor | None = None,
    lateral: Tensor | None = None,
) -> Learned:
    """``modulator`` is one number a position [B, OH, OW], ``target`` [B, OH, OW, K]."""
    w = _numpy(weight)
    patches = _patches(x, w.shape[2:], stride, padding, dilation, padding_mode)
    size = w.shape[0] // groups
    per_group = np.split(patches, groups, axis=3)
    parts = [
        _of_group(
            per_group[g].reshape(*patches.shape[:3], -1),
            w[g * size : (g + 1) * size].reshape(size, -1),
            rule,
            bias=None if bias is None else _numpy(bias)[g * size : (g + 1) * size],
            t=t,
            p=p,
            wta=wta,
            delta=delta,
            rank=rank,
            overwrite=overwrite,
            normalise=normalise,
            decay=decay,
            m=np.ones(patches.shape[:3]) if modulator is None else _numpy(modulator),
            target=None if target is None else _numpy(target)[..., g * size : (g + 1) * size],
            theta=None if threshold is None else _numpy(threshold)[g * size : (g + 1) * size],
            counts=None if counts is None else _numpy(counts)[g * size : (g + 1) * size],
            lateral=None if lateral is None else _numpy(lateral)[g * size : (g + 1) * size],
        )
        for g in range(groups)
    ]
    u, d, s, condition = zip(*parts, strict=True)
    return Learned(
        torch.from_numpy(np.concatenate(u, axis=-1)).movedim(-1, 1),
        torch.from_numpy(np.concatenate(d).reshape(w.shape)),
        None if s[0] is None else torch.from_numpy(np.concatenate(s)),
        float(max(condition)),
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, rule: str, **options) -> Learned:
    """Images of one pixel; ``modulator`` [B], ``target`` [B, K]."""
    for name in ("modulator", "target"):
        if options.get(name) is not None:
            options[name] = options[name][:, None, None]
    found = conv2d(
        x[:, :, None, None], weight[:, :, None, None], bias, rule, overwrite=True, **options
    )
    return found._replace(u=found.u[:, :, 0, 0], delta_w=found.delta_w[:, :, 0, 0])


def _of_group(x, w, rule, *, bias, t, p, wta, delta, rank, overwrite, normalise, decay, m, target,
              theta, counts, lateral):  # fmt: skip
    """Patches [B, OH, OW, N] and weights [K, N] of one group."""
    u = np.einsum("bhwn,kn->bhwk", x, np.sign(w) * np.abs(w) ** (p - 1))
    if bias is not None:
        u = u + bias
    statistic = None
    if rule in ("softhebb", "krotov", "instar", "kmeans"):
        v = u - 0.5 * np.einsum("kn,kn->k", w, w) if rule == "kmeans" else u
        v = v if theta is None else v - theta
        a = _compete(v, t, wta, delta, rank, overwrite)
    elif rule in ("hebb", "oja", "sanger"):
        a = u
    elif rule == "bcm":
        a = u * (u - theta)
        statistic = np.einsum("bhwk,bhwk->k", u, u)
    elif rule == "teacher":
        a = target
    elif rule == "delta_rule":
        a = target - _softmax(t * u)
    elif rule == "similarity":
        a = np.einsum("jk,bhwk->bhwj", np.linalg.inv(np.eye(len(w)) + lateral), u)
    else:
        a = _rectified(u, lateral)
    y, a = a, a * m[..., None]
    gain = np.zeros((len(w), len(w)))
    if rule in ("softhebb", "krotov", "oja", "teacher"):
        gain = np.diag(np.einsum("bhwk,bhwk->k", a, u))
    elif rule in ("instar", "kmeans"):
        statistic = np.einsum("bhwk->k", a)
        gain = np.diag(statistic)
    elif rule == "sanger":
        gain = np.tril(np.einsum("bhwk,bhwj->kj", a, u))
    elif rule.endswith("similarity"):
        statistic = np.einsum("bhwk,bhwj->kj", a, y)
        gain = np.diag(np.einsum("bhwk,bhwk->k", a, y))
    positions = a[..., 0].size
    taken = gain @ w + decay * positions * w
    d = np.einsum("bhwk,bhwn->kn", a, x) - taken
    size = np.einsum("bhwk,bhwn->kn", np.abs(a), np.abs(x)) + np.abs(gain) @ np.abs(w)
    condition = size.max() / np.abs(d).max() if np.abs(d).max() > 0 else 1.0
    if normalise == "max":
        d = d / (np.abs(d).max() + 1e-30)
    elif normalise == "mean":
        d = d / positions
    elif normalise == "count":
        d = d / (counts + np.einsum("bhwk->k", a) + 1e-30)[:, None]
    return u, d, statistic, condition


def _softmax(v):
    e = np.exp(v - v.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _compete(v, t, wta, delta, rank, overwrite):
    wins = np.arange(v.shape[-1]) == v.argmax(axis=-1)[..., None]
    if wta == "soft":
        return _softmax(t * v)
    if wta == "soft_anti":
        return np.where(wins, 1, -1) * _softmax(t * v)
    y = wins.astype(float)
    if wta == "hard":
        return y
    place = np.argsort(-v, axis=-1, kind="stable")[..., rank - 1]
    loses = np.arange(v.shape[-1]) == place[..., None]
    return np.where(loses, -delta, y) if overwrite else y - delta * loses


def _rectified(u, lateral):
    """Ten projected steps towards y = relu(u - M y)."""
    both = np.eye(len(lateral)) + lateral
    step = 1 / np.abs(both).sum(axis=1).max()
    y = np.zeros_like(u)
    for _ in range(10):
        y = np.maximum(y + step * (u - np.einsum("jk,bhwk->bhwj", both, y)), 0)
    return y


def _numpy(t: Tensor) -> np.ndarray:
    return t.detach().double().cpu().numpy()
