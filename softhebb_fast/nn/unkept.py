"""What a layer has that a SoftHebb layer in its place could not keep."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from types import FunctionType

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.nn.utils import parametrize

from softhebb_fast.checks import DTYPES

TORCHS = (nn.Conv2d, nn.Linear)
EXAMPLE = ("weight", "in_channels", "out_channels", "kernel_size", "stride", "t_invert")
COMPETES = ("t_invert", "wta", "delta", "rank", "lebesgue_p", "tie_rule", "pre_triangle")
READ = {*EXAMPLE, *COMPETES, "bias", "padding", "F_padding", "padding_mode", "dilation", "groups"}
NAMES = {"device", "dtype", "name"}  # which say nothing of what is computed
# What a class may define of its own without being more than a product that learns.
HARMLESS = {"forward", "extra_repr", "reset_parameters", "_get_name", "__annotate_func__"}
HARMLESS |= {"__init__", "__new__", "__repr__", "__str__", "__annotate__"}


def unkept(module: nn.Module) -> str | None:
    """The first thing that would be lost if ``module`` were replaced, or None."""
    return next(_reasons(module), None)


def _reasons(module: nn.Module) -> Iterator[str]:
    if any(isinstance(t, UninitializedTensorMixin) for t in _tensors(module).values()):
        yield "it is lazy and has not seen an input"
    if parametrize.is_parametrized(module):
        yield "its weight is parametrized"
    if isinstance(module, torch.jit.ScriptModule):
        yield "it is scripted"
    if type(module) not in TORCHS and not is_example_layer(module):
        yield f"{type(module).__name__} is neither nn.Conv2d nor nn.Linear"
    if hooks := [n.strip("_") for n, v in vars(module).items() if n.endswith("_hooks") and v]:
        yield f"it has {', '.join(hooks)}"
    children = (name for name, child in module._modules.items() if child is not None)
    if others := [*(_tensors(module).keys() - {"weight", "bias"}), *children]:
        yield f"it has more than weight and bias: {', '.join(sorted(others))}"
    if module._non_persistent_buffers_set:
        yield f"its state_dict lacks {', '.join(module._non_persistent_buffers_set)}"
    for name in ("weight", "bias"):
        yield from _strange_tensor(module, name)
    yield from _own_code(module)
    if type(module) not in TORCHS:
        yield from _own_class(module)


def is_example_layer(module: nn.Module) -> bool:
    """Whether a module has the attributes of the published example's convolution."""
    return all(hasattr(module, name) for name in EXAMPLE)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    both = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in both.items() if tensor is not None}


def _strange_tensor(module: nn.Module, name: str) -> Iterator[str]:
    tensor, weight = getattr(module, name, None), module.weight
    if name == "bias" and not isinstance(tensor, Tensor):
        return
    if not isinstance(tensor, Tensor) or name not in _tensors(module):
        yield f"its {name} is neither a parameter nor a buffer"
    elif type(tensor) not in (Tensor, nn.Parameter):
        yield f"its {name} is a {type(tensor).__name__}"
    elif tensor.dtype not in DTYPES or tensor.layout != torch.strided:
        kind = tensor.layout if tensor.dtype in DTYPES else tensor.dtype
        yield f"its {name} is of {kind}"
    elif (tensor.dtype, tensor.device) != (weight.dtype, weight.device):
        yield f"its {name} is {tensor.dtype} on {tensor.device}, other than its weight"
    elif not tensor.is_leaf:
        yield f"its {name} is computed from other tensors"
    elif tensor._backward_hooks or tensor._post_accumulate_grad_hooks:
        yield f"its {name} has hooks, which hear of gradients alone"


def _own_code(module: nn.Module) -> Iterator[str]:
    if module._compiled_call_impl is not None:
        yield "it is compiled"
    for name in vars(module):
        if callable(getattr(type(module), name, None)):
            yield f"its {name} is its own, not that of its class"


def _own_class(module: nn.Module) -> Iterator[str]:
    """Attributes that may change what a class of unknown code does, and the code itself."""
    for kind in type(module).__mro__:
        if kind.__module__.partition(".")[0] in ("torch", "typing", "abc", "builtins"):
            continue
        for name, value in vars(kind).items():
            if name in HARMLESS or name in READ:
                continue
            code = isinstance(value, FunctionType | property | classmethod | staticmethod)
            if code and hasattr(nn.Module, name):
                yield f"{kind.__name__} overrides {name}"
            elif not name.startswith("_") or (code and name.startswith("__")):
                yield f"{kind.__name__} has {name} beside its forward"
    for name in sorted(vars(module).keys() - _familiar() - READ - NAMES):
        if getattr(module, name) is not None:
            yield f"what its attribute {name} does is not known"
    yield from _own_arguments(module)


def _own_arguments(module: nn.Module) -> Iterator[str]:
    try:
        arguments = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        yield "the arguments of its forward are not known"
        return
    if len(arguments) != 1 or arguments[0].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        yield f"its forward takes ({', '.join(map(str, arguments))}), not one tensor"


@cache
def _familiar() -> set[str]:
    """The attributes of every instance of torch's own layers."""
    layers = nn.Conv2d(1, 1, 1, device="meta"), nn.Linear(1, 1, device="meta")
    return {name for layer in layers for name in vars(layer)}


def carry_over(module: nn.Module, layer: nn.Module, decided: set[str]) -> str | None:
    """Give ``layer`` the attributes of ``module`` that it lacks.

    Returns the reason if one would mean something else there, unless its name is ``decided``.
    """
    own = vars(module).keys() - _familiar() - READ
    if clash := sorted(
        n for n in own - decided if hasattr(layer, n) and getattr(module, n) is not None
    ):
        return f"its attribute {clash[0]} means something else in a SoftHebb layer"
    for name, value in vars(module).items():
        if not hasattr(layer, name):
            object.__setattr__(layer, name, value)
    return None
