"""The backends' functions with the options as keywords, as the public functions take them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import softhebb_fast.ops
import softhebb_fast.reference
from softhebb_fast.options import RULE, Competition, Convolution, Epilogue, Rate, Rule


def conv2d_options(**options: Any) -> tuple[Convolution, Competition]:
    """The options of a convolution by name. Raises TypeError for a name that is none."""
    return taken(Convolution, options), Competition(**options)


def taken(kind: type, options: dict[str, Any]) -> Any:
    """The options of a ``kind``, which no longer are in ``options``."""
    return kind(**{name: options.pop(name) for name in kind._fields if name in options})


class ByKeyword:
    """A module with the functions of ``reference``; what else it has is as it is there."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def conv2d(self, x, weight, bias, rule: Rule = RULE, **options):
        return self.module.conv2d(x, weight, bias, *conv2d_options(**options), rule)

    def linear(self, x, weight, bias, rule: Rule = RULE, **options):
        return self.module.linear(x, weight, bias, Competition(**options), rule)

    def conv2d_step_(self, x, weight, bias, rule: Rule = RULE, **options):
        rate, given = taken(Rate, options), conv2d_options(**options)
        return self.module.conv2d_step_(x, weight, bias, rate, *given, rule)

    def linear_step_(self, x, weight, bias, rule: Rule = RULE, **options):
        rate = taken(Rate, options)
        return self.module.linear_step_(x, weight, bias, rate, Competition(**options), rule)

    def block_forward(self, x, weight, bias, epilogue: Epilogue, **options):
        return self.module.block_forward(x, weight, bias, *conv2d_options(**options), epilogue)

    def block_update(self, x, weight, bias, epilogue: Epilogue, rule: Rule = RULE, **options):
        given = conv2d_options(**options)
        return self.module.block_update(x, weight, bias, *given, epilogue, rule)

    def block_step_(self, x, weight, bias, epilogue: Epilogue, rule: Rule = RULE, **options):
        rate, given = taken(Rate, options), conv2d_options(**options)
        return self.module.block_step_(x, weight, bias, rate, *given, epilogue, rule)


ops, reference = ByKeyword(softhebb_fast.ops), ByKeyword(softhebb_fast.reference)


def __getattr__(name: str) -> ByKeyword:
    """``kernels``, imported when it is asked for, so that Triton is not needed before."""
    if name != "kernels":
        raise AttributeError(name)
    from softhebb_fast import kernels

    return ByKeyword(kernels)
