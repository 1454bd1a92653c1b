"""Turn a model's convolutions and linear layers into SoftHebb layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils import parametrize

from softhebb_fast.checks import PADDING_MODES
from softhebb_fast.nn.conv import SoftHebbConv2d
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.linear import SoftHebbLinear

CONV_ATTRIBUTES = ("weight", "in_channels", "out_channels", "kernel_size", "stride", "t_invert")


@dataclass
class Conversion:
    """What ``convert`` did.

    Attributes:
        model: the converted model.
        converted: qualified names of the layers that are SoftHebb layers now.
        left: qualified names of the layers that were left alone, and why.
    """

    model: nn.Module
    converted: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"converted: {', '.join(self.converted) or 'nothing'}"]
        lines += [f"left alone: {name or 'the model'}: {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def convert(
    model: nn.Module, *, exclude: Iterable[str] = (), head: bool = False, **options
) -> Conversion:
    """Replace suitable layers of ``model``, in place, by SoftHebb layers with the same weights.

    Suitable are ``nn.Conv2d``, ``nn.Linear``, and any module with the attributes of the published
    example's convolution (``weight``, ``in_channels``, ``out_channels``, ``kernel_size``,
    ``stride``, ``t_invert``). In evaluation mode the model computes what it did. A bias is kept
    and frozen. The last ``nn.Linear`` is taken to be the classifier and left, unless ``head``.

    Args:
        exclude: qualified names of layers to leave alone.
        options: for the new layers, for example ``t_invert`` or ``update``.

    Raises ValueError if ``exclude`` names a layer that ``model`` does not have.
    """
    modules = dict(model.named_modules())
    exclude = set(exclude)
    if unknown := exclude - set(modules):
        raise ValueError(f"exclude must name layers of model; got {sorted(unknown)}")
    linears = [name for name, m in modules.items() if type(m) is nn.Linear]
    classifier = None if head or not linears else linears[-1]
    result = Conversion(model)
    for name, module in modules.items():
        if isinstance(module, HebbianLayer) or not _holds_a_product(module):
            continue
        if name in exclude:
            reason = "excluded"
        elif name == classifier:
            reason = "the last linear layer, taken to be the classifier"
        else:
            reason = _unsuitable(module)
        if reason is not None:
            result.left[name] = reason
            continue
        result.converted.append(name)
        result.model = _replace(result.model, name, _converted(module, options))
    return result


def _holds_a_product(module: nn.Module) -> bool:
    kinds = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear)
    return isinstance(module, kinds) or _is_example_layer(module)


def _is_example_layer(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in CONV_ATTRIBUTES)


def _unsuitable(module: nn.Module) -> str | None:
    if parametrize.is_parametrized(module):
        return "its weight is parametrized"
    if isinstance(getattr(module, "weight", None), nn.parameter.UninitializedParameter):
        return "it is lazy and has not seen an input"
    if _is_example_layer(module) and not isinstance(module, nn.modules.conv._ConvNd):
        return None if module.weight.dim() == 4 else "its weight does not have 4 dimensions"
    if type(module) not in (nn.Conv2d, nn.Linear):
        return f"{type(module).__name__} has no SoftHebb counterpart"
    if isinstance(module, nn.Conv2d):
        if module.padding_mode not in PADDING_MODES:
            return f"padding_mode {module.padding_mode!r} is not supported"
        if _padding(module) is None:
            return f"padding {module.padding!r} is not symmetric for this kernel"
    return None


def _converted(module: nn.Module, options: dict) -> HebbianLayer:
    weight, bias = module.weight, getattr(module, "bias", None)
    place = {"device": weight.device, "dtype": weight.dtype, "bias": bias is not None}
    options = {**place, **options, "init": _keep}
    if weight.dim() == 2:
        layer = SoftHebbLinear(module.in_features, module.out_features, **options)
    else:
        options = {"t_invert": getattr(module, "t_invert", 12.0), **options}
        options = {"padding_mode": getattr(module, "padding_mode", "reflect"), **options}
        layer = SoftHebbConv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            module.stride,
            _padding(module),
            getattr(module, "dilation", 1),
            getattr(module, "groups", 1),
            **options,
        )
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.weight.requires_grad_(weight.requires_grad)
        if bias is not None:
            layer.bias.copy_(bias)
            layer.bias.requires_grad_(False)
    layer.init = "normal"
    return layer.train(module.training)


def _keep(weight: torch.Tensor) -> None:
    """The initialisation of a layer that is about to be given weights."""


def _padding(module: nn.Module) -> int | tuple[int, int] | None:
    padding = getattr(module, "padding", None)
    if padding is None:
        padding = getattr(module, "F_padding", 0)
    if padding == "valid":
        return 0
    if padding == "same":
        span = [d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True)]
        return None if any(s % 2 for s in span) else tuple(s // 2 for s in span)
    if isinstance(padding, tuple) and len(padding) == 4:
        left, right, top, bottom = padding
        return (top, left) if (left, top) == (right, bottom) else None
    return padding


def _replace(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)
    return model
