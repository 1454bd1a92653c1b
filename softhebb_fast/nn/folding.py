"""Whitening and the 1x1 convolution behind it as one convolution of the images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast.functional.autocast import autocasts
from softhebb_fast.nn.conv import SoftHebbConv2d
from softhebb_fast.nn.plain import plain
from softhebb_fast.nn.whitening import PatchWhitening
from softhebb_fast.reference import lebesgue_weight

NUMBERS = 1 << 24  # of whitened patches or of u in memory at once, where they are needed
PASSES = 256  # multiplications that take as long as activation and pool of a number on their own

Folded = tuple[Tensor, Tensor]
Kept = dict[tuple[nn.Module, nn.Module], Folded]

_KEPT: ContextVar[Kept | None] = ContextVar("folded_filters", default=None)


@contextmanager
def folded_once() -> Iterator[None]:
    """Fold filters at their first use alone until the context ends; nothing in it may set them."""
    token = _KEPT.set(_kept())
    try:
        yield
    finally:
        _KEPT.reset(token)


def folds(norm: nn.Module | None, layer: nn.Module, x: Tensor) -> bool:
    """Whether ``layer(norm(x))`` may be one convolution: a fitted whitening, and a 1x1 layer that
    does not learn. A PCA of few components that makes two products cheaper is left alone."""
    if type(norm) is not PatchWhitening or type(layer) is not SoftHebbConv2d:
        return False
    if not norm.patches or layer.waits_for_data or layer.learns or not plain(norm, layer):
        return False
    if x.dim() != 4 or x.dtype != norm.weight.dtype or autocasts(x.device):
        return False
    if layer.kernel_size != (1, 1) or layer.stride != (1, 1) or layer.groups != 1:
        return False
    size = norm.weight.shape[1:].numel()
    components, filters = norm.out_channels, layer.out_channels
    return layer.padding == (0, 0) and filters * size <= components * (size + filters)


def folded(norm: PatchWhitening, layer: SoftHebbConv2d) -> Folded:
    """Filters and biases of that convolution."""
    kept = _kept()
    if (norm, layer) not in kept:
        weight = lebesgue_weight(layer.weight, layer.lebesgue_p)
        kept[norm, layer] = norm.folded(weight, layer.bias)
    return kept[norm, layer]


def product(norm: PatchWhitening, layer: SoftHebbConv2d, x: Tensor) -> Tensor:
    """The layer's u of ``x``, without the whitened patches in memory."""
    u = norm.product(x, *folded(norm, layer))
    return F.relu(u - u.mean(dim=-3, keepdim=True)) if layer.pre_triangle else u


def options(norm: PatchWhitening, layer: SoftHebbConv2d) -> dict[str, Any]:
    """How the layer's function computes with the folded filters."""
    geometry = {name: getattr(norm, name) for name in ("stride", "padding", "padding_mode")}
    return {**layer.options(), **geometry, "lebesgue_p": 2.0}


def pays(norm: PatchWhitening, layer: SoftHebbConv2d) -> bool:
    """Whether, where patches have their contrast normalised, the product that is spared takes
    longer than what one pass would do beside it."""
    return norm.out_channels * norm.weight[0].numel() > PASSES * layer.out_channels


def portions(norm: PatchWhitening, layer: SoftHebbConv2d, x: Tensor) -> tuple[Tensor, ...]:
    """``x`` in parts whose whitened patches, or whose u, take little memory."""
    _, _, height, width = x.shape
    strides = norm.stride[0] * norm.stride[1]
    a_map = max(1, max(norm.out_channels, layer.out_channels) * height * width // strides)
    return torch.split(x, max(1, NUMBERS // a_map)) if len(x) else (x,)


def _kept() -> Kept:
    kept = None if torch.compiler.is_compiling() else _KEPT.get()
    return {} if kept is None else kept
