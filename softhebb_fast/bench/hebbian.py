"""A layer's step by any rule, as this package computes it: by its function, and by its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from softhebb_fast import functional
from softhebb_fast.bench.cases import Part
from softhebb_fast.nn import HebbianConv2d, HebbianLinear

Step = Callable[[Tensor], Tensor]


def stepper(part: Part, weight: Tensor, state: dict[str, Tensor], backend: str) -> Step:
    """A function of x that gives u and steps ``weight`` in place; ``state`` as of ``Inputs``."""
    options = {**_options(part, backend), **state}
    if part.layer.kind == "linear":
        step = functional.hebbian_linear_step_
        return lambda x: step(x.flatten(1), weight, **options).u
    options |= part.convolution._asdict()
    return lambda x: functional.hebbian_conv2d_step_(x, weight, **options).u


def module(part: Part, weight: Tensor, state: dict[str, Tensor], backend: str) -> Step:
    """The same by a layer that learns into ``weight``, whose own state begins as ``state``."""
    layer, options = part.layer, {**_options(part, backend), "update": "in_place"}
    if layer.kind == "linear":
        made = HebbianLinear(part.patch, layer.out, **options)
    else:
        geometry = layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups
        own = {"padding_mode": layer.padding_mode, "pre_triangle": layer.pre_triangle}
        made = HebbianConv2d(part.shape[0], layer.out, *geometry, **own, **options)
    made.to(weight.device).weight.data = weight
    told = {name: t for name, t in state.items() if name == "target"}
    for name in state.keys() - told.keys():
        getattr(made, name).copy_(state[name])
    return lambda x: made(x, **told)


def _options(part: Part, backend: str) -> dict[str, Any]:
    rate = {"lr": part.layer.lr, "lr_power": part.lr_power}
    return {"rule": part.rule, "backend": backend, **rate, **part.competition._asdict()}
