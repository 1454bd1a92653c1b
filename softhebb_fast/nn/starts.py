"""Starts of layers that take a sample of what the layers will see."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from softhebb_fast.checks import fitted_conv2d
from softhebb_fast.init import initialise, needs_data
from softhebb_fast.init.registry import resolve, sample_size
from softhebb_fast.nn.batch_norm import put_over
from softhebb_fast.nn.conv import SoftHebbConv1d, SoftHebbConv2d
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.recording import check_input
from softhebb_fast.nn.windows import drawn, windows


def initialise_from(module: nn.Module, x: Tensor, generator: torch.Generator | None = None) -> None:
    """Start a layer whose ``init`` is made of data, ``"patches"`` or ``"kmeans"``, from ``x``.

    Args:
        module: a SoftHebb layer, or the ``Block`` of one, which normalises ``x`` first.
        x: a batch of the layer's (the block's) inputs, such as ``[B, C, H, W]``; all that matters
            is what it shows, so some hundred images of the training set will do.
        generator: of the CPU, for what is drawn; torch's own if None.

    Raises TypeError for other modules, ValueError for a layer with another ``init`` or with
    groups, for too few different patches, and as the initialisation does; the layer is then as
    it was. Warns where filters start with norms of 1: the norm-dependent rate is zero there.
    """
    layer = layer_of(module)
    still = stands_still(layer)
    if layer.weight.requires_grad and still:
        warnings.warn(still, stacklevel=2)
    check_input(x)
    count = sample_size(layer.init, len(layer.weight))
    start(layer, seen(module, x, count, generator), generator)


def layer_of(module: nn.Module) -> HebbianLayer:
    """The layer itself, or that of a block, if it waits for a sample. Raises as above."""
    layer = module if isinstance(module, HebbianLayer) else getattr(module, "layer", None)
    if not isinstance(layer, HebbianLayer):
        raise TypeError(f"module must be a SoftHebb layer or a block of one; got {module!r}")
    if not needs_data(layer.init):
        raise ValueError(
            f"init must be made of data, such as 'patches', to start from it; got {layer.init!r}"
        )
    if getattr(layer, "groups", 1) != 1:
        raise ValueError(f"groups must be 1 for a start from data; got {layer.groups}")
    return layer


def stands_still(layer: HebbianLayer) -> str | None:
    """Why a layer that starts from data would not learn, or None."""
    radius = resolve(layer.init)[1].get("radius", layer.radius)
    if layer.lr_power == 0 or abs(radius - 1) > layer.r1_tolerance:
        return None
    return (
        f"filters that start with norms of radius={radius:g} do not learn: their rate, lr times "
        f"| norm - 1 | to the power {layer.lr_power:g}, is zero; use a radius well above 1"
    )


@torch.no_grad()
def seen(
    module: nn.Module, x: Tensor, count: int, generator: torch.Generator | None = None
) -> Tensor:
    """``count`` patches, or all, of what the layer sees of a batch ``x``: ``[count, N]``.

    A batch norm takes the batch's own mean and deviation, as in training, and keeps nothing.
    """
    layer = layer_of(module)
    if module is not layer and module.norm is not None:
        norm = put_over(None, copy.deepcopy(module.norm).eval())
        for part in norm.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.train()
        x = norm(x)
    x = x.to(layer.weight.dtype)
    if not isinstance(layer, SoftHebbConv2d):
        rows = x.reshape(-1, x.shape[-1])
        return rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]
    one = isinstance(layer, SoftHebbConv1d)
    x = x.unsqueeze(-2) if one else x
    if x.dim() != 4 or x.shape[1] != layer.in_channels:
        raise ValueError(f"x must be a batch of {layer.in_channels} channels; got {tuple(x.shape)}")
    if layer.padding == "same":
        raise ValueError("padding must be numbers for a start from data; got 'same' of odd sides")
    c = layer.convolution
    fitted_conv2d(x[:1].to(layer.weight.device), layer.weight, None, c)
    view = windows(x, layer.kernel_size, c.stride, c.padding, c.dilation, c.padding_mode)
    return drawn(view, count, generator)


@torch.no_grad()
def start(layer: HebbianLayer, patches: Tensor, generator: torch.Generator | None = None) -> None:
    """Start ``layer`` from ``patches [P, N]`` of what it sees. Raises as the initialisation."""
    weight = layer.weight.new_empty(layer.weight.shape)
    initialise(
        weight,
        layer.bias,
        layer.init,
        radius=layer.radius,
        lebesgue_p=layer.lebesgue_p,
        generator=generator,
        patches=patches,
    )
    layer.weight.copy_(weight)
    layer.waits_for_data = False
