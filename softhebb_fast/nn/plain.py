"""Whether calling a module does what its class is written to do, and nobody else hears of it.

A fused pass may take the place of such modules alone.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as hooks_of_all

from softhebb_fast.nn.activations import RePU, Triangle
from softhebb_fast.nn.conv import SoftHebbConv2d
from softhebb_fast.nn.dropout import Dropout
from softhebb_fast.nn.hebbian import HebbianConv2d, HebbianLinear
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.linear import SoftHebbLinear
from softhebb_fast.nn.whitening import PatchWhitening

KINDS = (
    *(SoftHebbConv2d, SoftHebbLinear, HebbianConv2d, HebbianLinear),
    *(PatchWhitening, Triangle, RePU, Dropout),
    *(nn.BatchNorm2d, nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten),
)
# Of the class itself, as imported: who replaces one later is noticed.
_FORWARDS = {kind: kind.forward for kind in KINDS}
# What an instance of a layer may have instead of its class, and a fused pass would go round.
_STEPS = ("step_", "_product", "_hebbian", "_hebbian_step_")


def plain(*modules: nn.Module | None) -> bool:
    """Whether all are of ``KINDS``, with the forward of the class, and without hooks."""
    return not heard(*modules) and all(m is None or _is_as_written(m) for m in modules)


def heard(*modules: nn.Module | None) -> bool:
    """Whether hooks listen to the calls of one of the modules, or of all modules."""
    if (
        hooks_of_all._global_forward_hooks
        or hooks_of_all._global_forward_pre_hooks
        or hooks_of_all._global_backward_hooks
        or hooks_of_all._global_backward_pre_hooks
    ):
        return True
    return any(
        m is not None
        and (m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks)
        for m in modules
    )


def _is_as_written(module: nn.Module) -> bool:
    kind, own = type(module), module.__dict__
    if _FORWARDS.get(kind) is not kind.forward or "forward" in own:
        return False
    return not isinstance(module, HebbianLayer) or not any(name in own for name in _STEPS)
