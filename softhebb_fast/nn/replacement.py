"""The SoftHebb layer that does what another layer does, or the reason why there is none."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from softhebb_fast.kinds import PADDING_MODES
from softhebb_fast.nn.conv import SoftHebbConv2d
from softhebb_fast.nn.hebbian import HebbianConv2d, HebbianLinear
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.linear import SoftHebbLinear
from softhebb_fast.nn.plasticity import Plastic
from softhebb_fast.nn.proof import refutation
from softhebb_fast.nn.unkept import COMPETES, carry_over, unkept
from softhebb_fast.options import pair

SOFTHEBB = SoftHebbLinear, SoftHebbConv2d


class Unsuitable(ValueError):
    """A layer cannot be replaced; the message says why."""


def replacement(module: nn.Module, options: dict[str, Any], training: bool) -> HebbianLayer:
    """A SoftHebb layer with the tensors of ``module``, proved to compute the same.

    Raises Unsuitable with the reason if there is none, and what the layer raises of ``options``.
    """
    if reason := unkept(module):
        raise Unsuitable(reason)
    try:
        twin = _built(module, {**_own_options(module), "backend": "reference"})
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unsuitable(str(error)) from error
    if twin.weight.shape != module.weight.shape:
        shapes = tuple(module.weight.shape), tuple(twin.weight.shape)
        raise Unsuitable("its weight is {} where its attributes say {}".format(*shapes))
    layer = _built(module, {**_own_options(module), **options})
    asked = _built(module, {**_own_options(module), **options, "backend": "reference"})
    layer.weight = _parameter(module.weight)
    if layer.bias is not None:
        layer.bias = _parameter(module.bias)
    if isinstance(layer, Plastic):
        _place_state(layer, options.get("neuron_rates"))
    if twin.state_dict().keys() != module.state_dict().keys():
        raise Unsuitable(f"its state_dict holds {', '.join(module.state_dict())}")
    if reason := refutation(module, layer, [twin, asked], training):
        raise Unsuitable(reason)
    if reason := carry_over(module, layer, set(options)):
        raise Unsuitable(reason)
    return layer


def _built(module: nn.Module, options: dict[str, Any]) -> HebbianLayer:
    bias = isinstance(getattr(module, "bias", None), Tensor)
    options = {**options, "bias": bias, "device": "meta", "dtype": module.weight.dtype}
    linear, conv = (HebbianLinear, HebbianConv2d) if "rule" in options else SOFTHEBB
    if type(module) is nn.Linear:
        return linear(module.in_features, module.out_features, **options)
    if module.weight.dim() != 4:
        raise Unsuitable("its weight does not have 4 dimensions")
    mode = getattr(module, "padding_mode", "reflect")
    if mode not in PADDING_MODES:
        raise Unsuitable(f"padding_mode {mode!r} is not supported")
    return conv(
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        module.stride,
        _padding(module),
        getattr(module, "dilation", 1),
        getattr(module, "groups", 1),
        **{"padding_mode": mode, **options},
    )


def _place_state(layer: Plastic, neuron_rates: Tensor | None) -> None:
    """Let the state of a layer that was made on the meta device begin beside its weight."""
    for name, buffer in layer.named_buffers(recurse=False):
        setattr(layer, name, torch.empty_like(buffer, device=layer.weight.device))
    layer.reset_state()
    if neuron_rates is not None:
        layer.neuron_rates.copy_(neuron_rates)


def _own_options(module: nn.Module) -> dict[str, Any]:
    """What a module says of its competition, under the names of the new layer."""
    found = {}
    for name in COMPETES:
        value = getattr(module, name, None)
        if value is None or (name == "pre_triangle" and type(module) is nn.Linear):
            continue
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise Unsuitable(f"its {name} is a tensor of shape {tuple(value.shape)}")
            if value.requires_grad:
                raise Unsuitable(f"its {name} is learned")
            value = value.item()
        if name == "pre_triangle":
            value = bool(value)
        elif isinstance(value, Real) and not isinstance(value, bool):
            value = int(value) if isinstance(value, Integral) else float(value)
        found[name] = value
    return found


def _parameter(tensor: Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)


def _padding(module: nn.Module) -> int | tuple[int, int] | str:
    """The padding, which some layers have as ``F_padding`` beside one of zero or none."""
    padding, own = getattr(module, "padding", None), getattr(module, "F_padding", None)
    if own is not None and padding in (None, 0, (0, 0), [0, 0]):
        padding = own
    if padding is None or padding == "valid":
        return 0
    if padding == "same":
        sizes = (pair(getattr(module, n, 1), n) for n in ("kernel_size", "dilation"))
        span = [d * (k - 1) for k, d in zip(*sizes, strict=True)]
        if any(s % 2 for s in span):
            if pair(module.stride, "stride") != (1, 1):
                raise Unsuitable("its padding is not the same on both sides")
            return padding
        return span[0] // 2, span[1] // 2
    if isinstance(padding, (tuple, list)) and len(padding) == 4:
        left, right, top, bottom = padding
        if (left, top) != (right, bottom):
            raise Unsuitable("its padding is not the same on both sides")
        return top, left
    return padding
