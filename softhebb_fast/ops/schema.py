"""The operators ``torch.ops.softhebb_fast.*``: their schemas follow from the fields of the options.

Each takes x, weight and bias, then its options field by field. Those of the rule come last and have
their defaults in the schema: a call without them is SoftHebb. The extension implements them for
CPU tensors, else the reference does; the Triton kernels are their CUDA (and ROCm) implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import islice
from typing import Any, NamedTuple, get_type_hints

from torch import Tensor
from torch.autograd.graph import increment_version

from softhebb_fast.extension import LIBRARY, MISSING
from softhebb_fast.options import Competition, Convolution, Epilogue, Rate, Rule

TYPES = {
    float: "float",
    float | None: "float?",
    int: "int",
    bool: "bool",
    str: "str",
    tuple[int, int]: "int[2]",
    Tensor | None: "Tensor?",
}


class Operator(NamedTuple):
    """An operator: what backends call it, the options it takes, how many tensors it gives."""

    function: str
    options: tuple[type, ...]
    outputs: int


OPERATORS = {
    "conv_update": Operator("conv2d", (Convolution, Competition, Rule), 4),
    "conv_step_": Operator("conv2d_step_", (Rate, Convolution, Competition, Rule), 3),
    "linear_update": Operator("linear", (Competition, Rule), 4),
    "linear_step_": Operator("linear_step_", (Rate, Competition, Rule), 3),
    "block_forward": Operator("block_forward", (Convolution, Competition, Epilogue), 1),
    "block_update": Operator("block_update", (Convolution, Competition, Epilogue, Rule), 4),
    "block_step_": Operator("block_step_", (Rate, Convolution, Competition, Epilogue, Rule), 3),
}


def schema(name: str) -> str:
    operator = OPERATORS[name]
    weight = "Tensor(a!) weight" if name.endswith("_") else "Tensor weight"
    fields = (
        f"{TYPES[kind]} {_argument(options, field)}"
        for options in operator.options
        for field, kind in get_type_hints(options).items()
    )
    outputs = ", ".join(["Tensor"] * operator.outputs)
    return f"{name}(Tensor x, {weight}, Tensor? bias, {', '.join(fields)}) -> ({outputs})"


def _argument(options: type, field: str) -> str:
    """The name of a field in a schema, with its default if it has one there."""
    if options is not Rule:
        return f"epilogue_{field}" if options is Epilogue else field
    value = options._field_defaults[field]
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return f"{field}={shown.removesuffix('0') if isinstance(value, float) else shown}"


def options(name: str, values: Sequence[Any]) -> list[NamedTuple]:
    """The options of an operator from its arguments after the bias.

    The last may be missing: dispatch leaves out what equals its default.
    """
    left = (tuple(v) if isinstance(v, list) else v for v in values)
    return [kind(*islice(left, len(kind._fields))) for kind in OPERATORS[name].options]


def on(module: str, name: str) -> Callable:
    """The operator ``name`` on a module that has the functions of ``reference``.

    The module is imported at the first call, so that Triton is not before it is needed.
    """

    def operator(x: Tensor, weight: Tensor, bias: Tensor | None, *values: Any) -> Any:
        function = getattr(import_module(module), OPERATORS[name].function)
        out = function(x, weight, bias, *options(name, values))
        if name.endswith("_") and MISSING is not None:
            increment_version(weight)
        if isinstance(out, Tensor):
            return out
        return tuple(weight.new_empty(0) if t is None else t for t in out)

    return operator


for _name in OPERATORS:
    LIBRARY.define(schema(_name))
    if MISSING is not None:
        LIBRARY.impl(_name, on("softhebb_fast.reference", _name), "CompositeExplicitAutograd")
    LIBRARY.impl(_name, on("softhebb_fast.kernels", _name), "CUDA")
