"""The gate: nothing is timed of a provider that does not compute what the reference does.

Provider and reference, the latter in float64 on the same device, make one step from the same
inputs; of a network, every block of the reference from what the provider's block below gave.
Compared are the outputs of every block, the largest error relative to the largest magnitude, and
the weights' steps, the norm of the error relative to that of the layer's step. Of a classifier: its
loss and its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.bench import eager
from softhebb_fast.bench.cases import Case
from softhebb_fast.bench.hebbian import stepper
from softhebb_fast.bench.inputs import Inputs
from softhebb_fast.bench.provider import Provider

MOST_FLOPS = 5e10  # of the step that is checked: some seconds in float64 on a small CPU


class Tolerance(NamedTuple):
    output: float
    step: float


# A step feels more than rounding: where two neurons are nearer than the rounding of u, the winner
# and with it the sign of y may be the other, and the step of its filter moves by a patch. So steps
# are compared by their norm.
TOLERANCES = {
    # sums of some thousand products rounded to 6e-8, through a batch norm and a power below 1
    "float32": Tolerance(1e-5, 5e-3),
    # products of three bfloat16 terms, each product rounded to some 2^-16
    "bf16x3": Tolerance(1e-4, 1e-2),
    # factors rounded or cut to 11 bits, up to 2^-10 each, and a power of up to 1.4; with rounded
    # factors 5 % of a small batch's step were the winners'
    "tf32": Tolerance(5e-3, 2e-1),
    # six products of three bfloat16 terms: float32's own rounding
    "bf16x6": Tolerance(1e-5, 5e-3),
    # the errors of three tf32 products, some float32 roundings
    "tf32x3": Tolerance(1e-4, 5e-3),
    # factors rounded to 8 bits
    "bfloat16": Tolerance(5e-2, 3e-1),
}
SOFTMAX = 1000  # times the error of u is that of a softmax of 5 u where u is in the hundreds,
MOST_OF_SOFTMAX = 0.3  # but no more


def checked(case: Case) -> Case:
    """The case that stands for ``case`` in the gate: a step for a phase of a run, fewer samples
    if it is large, no dropout."""
    if case.kind in ("learn", "features", "features_of_test", "evaluate"):
        case = replace(case, kind="step", batch=10)
    if case.kind == "classify":
        case = replace(case, kind="probe")
    batch = case.batch
    while batch > 1 and case.flops / case.batch * batch > MOST_FLOPS:
        batch //= 2
    return replace(case, batch=batch, dropout=0.0)


@torch.no_grad()
def expected(
    case: Case, given: Inputs, found: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """What the reference computes in float64: outputs, and the weights after the step.

    Above the first, a block starts from the output ``found`` below it, so that no error counts
    twice.
    """
    x, weights = given.x.double(), [w.double() for w in given.weights]
    if case.kind == "probe":
        return _classified(case, x, weights, given.labels), weights
    outputs = []
    for part, weight, output in zip(case.parts, weights, found, strict=True):
        if case.kind == "step" and part.layer.batch_norm:
            x = F.batch_norm(x, None, None, training=True)
        u = stepper(part, weight, given.state, "reference")(x)
        outputs.append(u if case.kind == "layer" else eager.activate_and_pool(part.layer, u))
        x = output.double()
    return outputs, weights


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
        allowed = allowed._replace(output=min(SOFTMAX * allowed.output, MOST_OF_SOFTMAX))
    for number, (found, exact) in enumerate(zip(outputs, wanted[0], strict=True), start=1):
        error = ratio((found.double() - exact).abs().max(), exact.abs().max())
        if not error <= allowed.output:
            return (
                f"output {number} is off by {error:.1e} of its largest; {allowed.output:g} may be"
            )
    steps = zip(before, given.weights, wanted[1], strict=True)
    for number, (start, found, exact) in enumerate(steps, start=1):
        exact = exact.to(found.dtype).double()  # 16-bit weights hold no more of a step
        error = ratio((found.double() - exact).norm(), (exact - start.double()).norm())
        if not error <= allowed.step:
            return f"step {number} is off by {error:.1e} of its norm; {allowed.step:g} may be"
    return None


def ratio(error: Tensor, scale: Tensor) -> float:
    """0 where both are 0."""
    return float(error / scale) if error else 0.0  # a NaN is true


def _classified(case: Case, x: Tensor, weights: list[Tensor], labels: Tensor) -> list[Tensor]:
    features = eager.features(case.parts, weights, x).flatten(1)
    torch.manual_seed(0)
    linear = torch.nn.Linear(case.features, case.classes).to(x.device).double()
    with torch.enable_grad():
        loss = F.cross_entropy(linear(features), labels)
        loss.backward()
    return [loss.detach(), linear.weight.grad]
