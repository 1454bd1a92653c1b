"""Turn a model's convolutions and linear layers into SoftHebb layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils import parametrize

from softhebb_fast.kinds import PADDING_MODES
from softhebb_fast.nn.conv import SoftHebbConv2d
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.linear import SoftHebbLinear

CONV_ATTRIBUTES = ("weight", "in_channels", "out_channels", "kernel_size", "stride", "t_invert")
DECIDED = {"bias", "init", "generator", "device", "dtype"}


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
    ``stride``, ``t_invert``). In evaluation mode the model computes what it did. Parameters are
    passed on, not copied: optimizers and shared weights stay valid, and a layer used in several
    places is one layer still. A bias is kept and frozen. The last ``nn.Linear`` is taken to be
    the classifier and left, unless ``head``.

    Args:
        exclude: qualified names of modules to leave alone, with all that they contain.
        options: for the new layers, for example ``t_invert`` or ``update``.

    Raises ValueError if ``exclude`` names a module that ``model`` does not have, or ``options``
    hold what the replaced layers decide; that and every error of the new layers leave ``model`` as
    it was.
    """
    if decided := sorted(DECIDED.intersection(options)):
        raise ValueError(f"options must not hold what the layers keep; got {', '.join(decided)}")
    places = dict(model.named_modules(remove_duplicate=False))
    exclude = {exclude} if isinstance(exclude, str) else set(exclude)
    if unknown := exclude - set(places):
        raise ValueError(f"exclude must name modules of model; got {sorted(unknown)}")
    excluded = {m for name, m in places.items() if _is_inside(name, exclude)}
    linears = [m for m in places.values() if type(m) is nn.Linear]
    classifier = None if head or not linears else linears[-1]
    result, new = Conversion(model), {}
    for name, module in places.items():
        if _is_inside(name, result.converted) or not _holds_a_product(module):
            continue
        if module in excluded:
            reason = "excluded"
        elif module is classifier:
            reason = "the last linear layer, taken to be the classifier"
        else:
            reason = _unsuitable(module)
        if reason is not None:
            result.left[name] = reason
            continue
        new[module] = _converted(module, options)
        result.converted.append(name)
    for name in result.converted:
        layer = new[places[name]]
        if layer.bias is not None:
            layer.bias.requires_grad_(False)
        result.model = _replace(result.model, name, layer)
    return result


def _is_inside(name: str, outer: Iterable[str]) -> bool:
    return any(not o or name == o or name.startswith(f"{o}.") for o in outer)


def _holds_a_product(module: nn.Module) -> bool:
    kinds = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear)
    return not isinstance(module, HebbianLayer) and (
        isinstance(module, kinds) or _is_example_layer(module)
    )


def _is_example_layer(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in CONV_ATTRIBUTES)


def _unsuitable(module: nn.Module) -> str | None:
    if parametrize.is_parametrized(module):
        return "its weight is parametrized"
    if isinstance(module.weight, nn.parameter.UninitializedParameter):
        return "it is lazy and has not seen an input"
    if _is_example_layer(module):
        if module.weight.dim() != 4:
            return "its weight does not have 4 dimensions"
    elif type(module) not in (nn.Conv2d, nn.Linear):
        return f"{type(module).__name__} is neither nn.Conv2d nor nn.Linear"
    if type(module) is nn.Linear:
        return None
    if _padding_mode(module) not in PADDING_MODES:
        return f"padding_mode {module.padding_mode!r} is not supported"
    if _padding(module) is None:
        return "its padding is not the same on both sides"
    return None


def _converted(module: nn.Module, options: dict) -> HebbianLayer:
    weight, bias = module.weight, getattr(module, "bias", None)
    bias = bias if isinstance(bias, torch.Tensor) else None
    options = {**options, "bias": bias is not None, "device": "meta"}
    if weight.dim() == 2:
        layer = SoftHebbLinear(module.in_features, module.out_features, **options)
    else:
        if hasattr(module, "t_invert"):
            options = {"t_invert": float(module.t_invert), **options}
        layer = SoftHebbConv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            module.stride,
            _padding(module),
            getattr(module, "dilation", 1),
            getattr(module, "groups", 1),
            **{"padding_mode": _padding_mode(module), **options},
        )
    layer.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight)
    if bias is not None:
        layer.bias = bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias)
    return layer.train(module.training)


def _padding_mode(module: nn.Module) -> str:
    return getattr(module, "padding_mode", "reflect")


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
