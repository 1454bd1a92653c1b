"""The operators' floating point operations, for ``torch.utils.flop_counter.FlopCounterMode``.

As torch counts them: two for every multiplication of a product, none for what is done element by
element. A forward that learns takes two products of the same size, u and yx.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from math import prod
from types import ModuleType
from typing import Any

from softhebb_fast.checks import output_size
from softhebb_fast.extension import call
from softhebb_fast.ops.schema import OPERATORS, options
from softhebb_fast.options import Convolution

COUNTER = "torch.utils.flop_counter"


def register(counter: ModuleType) -> None:
    """Give torch's counter the formulas of all operators."""
    for name in OPERATORS:
        counter.register_flop_formula(getattr(call, name))(_formula(name))


def _formula(name: str) -> Callable[..., int]:
    products = 1 if name == "block_forward" else 2

    def flops(x: list[int], weight: list[int], bias: Any, *values: Any, **_: Any) -> int:
        positions = x[0]
        for option in options(name, values):
            if isinstance(option, Convolution):
                geometry = option.stride, option.padding, option.dilation
                positions *= prod(output_size(tuple(x[2:]), tuple(weight[2:]), *geometry))
        return products * 2 * positions * prod(weight)

    return flops


class _OnImport(MetaPathFinder):
    """Registers when torch's counter is imported, which takes long and loads Triton."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            register(module)

        spec.loader.exec_module = exec_module
        return spec


if COUNTER in sys.modules:
    register(sys.modules[COUNTER])
else:
    sys.meta_path.insert(0, _OnImport())
