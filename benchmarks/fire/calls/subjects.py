"""What a call gives, and what it must give: a ball for every number of every output."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.fire.calls.arguments import ACTIVATIONS, MODULES, Call
from benchmarks.fire.calls.layers import (
    Bounds,
    Outputs,
    Tensors,
    judge_layer,
    judge_module,
    run_layer,
    run_module,
)
from benchmarks.fire.calls.others import OTHERS
from benchmarks.fire.calls.parts import (
    INITS,
    PARTS,
    judge_activation,
    judge_init,
    run_activation,
    run_init,
)


class Subject(NamedTuple):
    """How a function is called, and the balls of what it gives.

    Attributes:
        run: gives its outputs.
        judge: of the same tensors before they were changed.
        writes: the tensors that it changes.
    """

    run: Callable[[Call, Tensors], Outputs]
    judge: Callable[[Call, Tensors], Bounds]
    writes: tuple[str, ...] = ()


def subject(call: Call) -> Subject:
    if call.name in MODULES:
        return Subject(run_module, judge_module)
    if call.name in ACTIVATIONS:
        return Subject(run_activation, judge_activation)
    if call.name in PARTS:
        run, judge, *writes = PARTS[call.name]
        return Subject(run, judge, tuple(writes))
    if call.name in INITS:
        return Subject(run_init, judge_init, ("weight", "bias"))
    if call.name in OTHERS:
        return Subject(OTHERS[call.name].run, OTHERS[call.name].judge)
    steps = call.name.endswith("_step_") or call.options.get("update") == "in_place"
    return Subject(run_layer, judge_layer, ("weight",) if steps else ())
