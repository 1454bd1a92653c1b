"""Two modules that must do the same: what becomes of each in one batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CONTEXTS = ("plain", "gradient", "no_grad", "inference_mode", "autocast")
NOTICE = "steps below half the spacing"  # which does not depend on the batches before


@dataclass
class Outcome:
    """Of one batch.

    Attributes:
        error: the kind and message of an exception, or "".
        tensors: output and gradients.
        state: a copy of the ``state_dict`` that it leaves.
        told: whether it warned of a weight of 16 bits.
        optimised: whether an optimizer made a step.
    """

    error: str
    tensors: dict[str, Tensor]
    state: dict[str, Tensor]
    told: bool
    optimised: bool


class Listener:
    """A hook that counts the calls it hears of."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, module: nn.Module, args: tuple, out: Tensor) -> None:
        self.calls += 1


def lived(
    module: nn.Module,
    call: nn.Module,
    x: Tensor,
    given: dict[str, Tensor],
    context: str,
    optimised: bool,
    seed: int,
) -> Outcome:
    """What one batch makes of ``module``, called as ``call``; ``seed`` is for dropout."""
    x, tensors, error = x.clone(), {}, ""
    x.requires_grad_(context == "gradient")
    torch.manual_seed(seed)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            with _context(context):
                tensors["output"] = out = call(x, **given)
            if context == "gradient":
                out.float().square().sum().backward()
            if optimised:
                learning = [p for p in module.parameters() if p.requires_grad]
                if learning:
                    torch.optim.SGD(learning, lr=0.05, maximize=True).step()
        except (TypeError, ValueError, RuntimeError) as raised:
            error = f"{type(raised).__name__}: {raised}"
    if x.grad is not None:
        tensors["gradient of x"] = x.grad
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            tensors[f"gradient of {name}"] = parameter.grad
    told = any(NOTICE in str(each.message) for each in heard)
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    return Outcome(error, tensors, keep(module), told, optimised)


def _context(name: str) -> AbstractContextManager:
    made: dict[str, Callable[[], AbstractContextManager]] = {
        "no_grad": torch.no_grad,
        "inference_mode": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    }
    return made.get(name, nullcontext)()


def compare(found: Outcome, expected: Outcome, near: float = 0) -> None:
    """Raise AssertionError where two outcomes differ in a bit, or by more than ``near``."""
    assert found.error == expected.error, f"{found.error!r}, a fresh one: {expected.error!r}"
    assert found.tensors.keys() == expected.tensors.keys(), (
        f"there are {list(found.tensors)}, of a fresh one {list(expected.tensors)}"
    )
    for kind in ("tensors", "state"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        for name, tensor in theirs.items():
            assert same(ours[name], tensor, near), (
                f"{name} is {ours[name].flatten()[:4]}, of a fresh one {tensor.flatten()[:4]}"
            )


def same(a: Tensor, b: Tensor, near: float = 0) -> bool:
    """Whether two tensors are alike in dtype, shape and every value, to ``near``."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.allclose(a, b, rtol=near, atol=near, equal_nan=True)


def keep(module: nn.Module) -> dict[str, Any]:
    """A copy of the state."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
