"""A layer's step by any rule, as this package computes it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from softhebb_fast import functional
from softhebb_fast.bench.cases import Part


def stepper(
    part: Part, weight: Tensor, state: dict[str, Tensor], backend: str
) -> Callable[[Tensor], Tensor]:
    """A function of x that gives u and steps ``weight`` in place; ``state`` as of ``Inputs``."""
    options = {
        **{"rule": part.rule, "lr": part.layer.lr, "lr_power": part.lr_power},
        **{"backend": backend, **part.competition._asdict(), **state},
    }
    if part.layer.kind == "linear":
        step = functional.hebbian_linear_step_
        return lambda x: step(x.flatten(1), weight, **options).u
    options |= part.convolution._asdict()
    return lambda x: functional.hebbian_conv2d_step_(x, weight, **options).u
