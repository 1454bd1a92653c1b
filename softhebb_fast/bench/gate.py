"""The gate: nothing is timed of a provider that does not compute what the reference does.

Provider and reference, the latter in float64, make one step from the same inputs. Compared are the
outputs of every block, relative to their largest magnitude, and the weights' steps, relative to
the largest step of the layer. Of a classifier: its loss and its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import reference
from softhebb_fast.bench import eager
from softhebb_fast.bench.cases import Case, Part
from softhebb_fast.bench.inputs import Inputs
from softhebb_fast.bench.providers import Provider

MOST_FLOPS = 5e10  # of the step that is checked: some seconds in float64 on a small CPU


class Tolerance(NamedTuple):
    output: float
    step: float


# A step feels more than rounding: where two neurons are nearer than the rounding of u, the winner
# and with it the sign of y may be the other, and the step of its filter moves by a patch.
TOLERANCES = {
    # sums of some thousand products rounded to 6e-8, through batch norms and a power below 1
    "float32": Tolerance(1e-5, 5e-3),
    # products of three bfloat16 terms, each product rounded to some 2^-16
    "bf16x3": Tolerance(1e-4, 1e-2),
    # factors rounded to 11 bits
    "tf32": Tolerance(1e-2, 1e-1),
    # the errors of three tf32 products, some float32 roundings
    "tf32x3": Tolerance(1e-4, 5e-3),
    # factors rounded to 8 bits
    "bfloat16": Tolerance(5e-2, 3e-1),
}
SOFTMAX = 1000  # times the error of u is that of a softmax of 5 u where u is in the hundreds


def checked(case: Case) -> Case:
    """The case that stands for ``case`` in the gate: a step for a phase of a run, fewer samples
    if it is large, no dropout."""
    if case.kind in ("learn", "features", "features_of_test", "judge"):
        case = replace(case, kind="step", batch=10)
    if case.kind == "classify":
        case = replace(case, kind="probe")
    batch = case.batch
    while batch > 1 and case.flops / case.batch * batch > MOST_FLOPS:
        batch //= 2
    return replace(case, batch=batch, dropout=0.0)


@torch.no_grad()
def expected(case: Case, given: Inputs) -> tuple[list[Tensor], list[Tensor]]:
    """What the reference computes in float64: outputs, and the weights after the step."""
    x, weights = given.x.double(), [w.double() for w in given.weights]
    if case.kind == "probe":
        return _classified(case, x, weights, given.labels), weights
    outputs = []
    for part, weight in zip(case.parts, weights, strict=True):
        if case.kind == "step" and part.layer.batch_norm:
            x = F.batch_norm(x, None, None, training=True)
        u = reference_step(part, x, weight)
        x = eager.activate_and_pool(part.layer, u)
        outputs.append(u if case.kind == "layer" else x)
    return outputs, weights


def reference_step(part: Part, x: Tensor, weight: Tensor) -> Tensor:
    """u of the reference, which steps ``weight`` in place."""
    layer = part.layer
    rate = {"lr": layer.lr, "lr_power": layer.lr_power}
    competition = {
        "t_invert": layer.t_invert,
        "wta": layer.rule,
        "delta": layer.delta,
        "rank": layer.rank,
        "lebesgue_p": layer.lebesgue_p,
    }
    if layer.kind == "linear":
        return reference.linear_step_(x.flatten(1), weight, None, **rate, **competition)[0]
    geometry = {
        "stride": (layer.stride,) * 2,
        "padding": (layer.padding,) * 2,
        "dilation": (layer.dilation,) * 2,
        "groups": layer.groups,
        "padding_mode": layer.padding_mode,
        "pre_triangle": layer.pre_triangle,
    }
    return reference.conv2d_step_(x, weight, None, **rate, **competition, **geometry)[0]


def complaint(
    case: Case,
    provider: Provider,
    given: Inputs,
    before: Sequence[Tensor],
    outputs: Sequence[Tensor],
    wanted: tuple[list[Tensor], list[Tensor]],
) -> str | None:
    """What is wrong with the outputs and the weights among ``given``, in words, or None."""
    allowed = TOLERANCES[provider.precision]
    if case.kind == "step" and case.parts[-1].layer.activation[0] == "softmax":
        allowed = allowed._replace(output=SOFTMAX * allowed.output)
    for number, (found, exact) in enumerate(zip(outputs, wanted[0], strict=True), start=1):
        error = distance(found, exact, exact)
        if not error <= allowed.output:
            return (
                f"output {number} is off by {error:.1e} of its largest; {allowed.output:g} may be"
            )
    steps = zip(before, given.weights, wanted[1], strict=True)
    for number, (start, found, exact) in enumerate(steps, start=1):
        error = distance(found, exact, exact - start.double())
        if not error <= allowed.step:
            return f"step {number} is off by {error:.1e} of its largest, above {allowed.step:g}"
    return None


def distance(found: Tensor, exact: Tensor, scale: Tensor) -> float:
    """The largest error over the largest magnitude of ``scale``; 0 where both are 0."""
    error, largest = float((found.double() - exact).abs().max()), float(scale.abs().max())
    return error / largest if error else error


def _classified(case: Case, x: Tensor, weights: list[Tensor], labels: Tensor) -> list[Tensor]:
    features = eager.features(case.parts, weights, x).flatten(1)
    torch.manual_seed(0)
    linear = torch.nn.Linear(case.features, case.classes).to(x.device).double()
    with torch.enable_grad():
        loss = F.cross_entropy(linear(features), labels)
        loss.backward()
    return [loss.detach(), linear.weight.grad]
