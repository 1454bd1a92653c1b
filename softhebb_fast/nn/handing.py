"""Updates that are handed to an optimizer as gradients, and those that never reach it."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from itertools import count
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

LAYERS: WeakSet[nn.Module] = WeakSet()
NUMBERS = count()
SCALED_STEPS = {GradScaler.step.__code__, GradScaler._maybe_opt_step.__code__}
LOST = (
    "updates of a Hebbian layer were cleared before an optimizer used them: the forward assigns "
    "weight.grad, so call zero_grad() before the forward and step() after it"
)
REPLACES = (
    "the update of a Hebbian layer replaces a gradient in weight.grad that no optimizer has used: "
    "of another layer that shares the weight, or of a backward pass. Step or call zero_grad() "
    "before the forward"
)


class Handed(NamedTuple):
    """Weight and gradient as they were when an update was handed over, by identity and version.

    A gradient bears a number: its ``id`` may be another's once it is gone.
    """

    weight: int
    weight_version: int
    gradient: int
    gradient_version: int
    before: Tensor | None = None  # a copy of the weight, once an update seems to be lost

    @classmethod
    def of(cls, weight: Tensor, before: Tensor | None = None) -> Handed | None:
        """None if a hook took the gradient, or for a weight of inference mode: no version."""
        gradient = weight.grad
        if gradient is None or weight.is_inference():
            return None
        gradient.softhebb_number = number = next(NUMBERS)
        return cls(id(weight), weight._version, number, gradient._version, before)

    def gave(self, gradient: Tensor) -> bool:
        """Whether ``gradient`` is the one that was handed over."""
        return getattr(gradient, "softhebb_number", None) == self.gradient


def assign(parameter: nn.Parameter, gradient: Tensor) -> None:
    """``parameter.grad = gradient``, and its hooks are called as a backward pass would."""
    compiling = torch.compiler.is_compiling()
    if not compiling and parameter._backward_hooks:
        for hook in list(parameter._backward_hooks.values()):
            changed = hook(gradient)
            gradient = gradient if changed is None else changed
    parameter.grad = gradient
    if not compiling and parameter._post_accumulate_grad_hooks:
        for hook in list(parameter._post_accumulate_grad_hooks.values()):
            hook(parameter)


def notice(layer: nn.Module) -> Tensor | None:
    """Warn if the last update of the layer is lost, or if the next replaces another gradient.

    An update that was cleared while the weight stayed seems lost. But versions do not tell of what
    an optimizer does to ``weight.data``, and of steps along a zero gradient they tell. So the
    weight is compared with the copy that this returns, one forward later and once.
    """
    if not layer.notices:
        return None
    weight, gradient, last = layer.weight, layer.weight.grad, layer.handed
    if weight.is_meta:
        return None
    if last is not None and last.weight != id(weight):
        last = None
    unmoved = last is not None and last.weight_version == weight._version
    if gradient is None:
        cleared = unmoved
    elif last is None or not last.gave(gradient):
        if last is None or unmoved:
            layer.notices = False
            if gradient.any():
                warnings.warn(REPLACES, stacklevel=2)
        return None
    elif gradient._version == last.gradient_version:
        return None
    else:
        cleared = not gradient.any()
        layer.notices = cleared
    if not cleared:
        return None
    if last.before is None:
        return weight.detach().clone()
    layer.notices = False
    if torch.equal(last.before, weight):
        warnings.warn(LOST, stacklevel=2)
    return None


def watch(layer: nn.Module) -> None:
    """Refuse to let a GradScaler step what this layer hands over."""
    LAYERS.add(layer)
    _register()


@cache
def _register() -> None:
    register_optimizer_step_pre_hook(_refuse_scaled)


def _refuse_scaled(optimizer: Optimizer, args: tuple, kwargs: dict[str, Any]) -> None:
    if torch.compiler.is_compiling() or not _steps_a_scaler():
        return
    stepped = {id(p): p.grad for group in optimizer.param_groups for p in group["params"]}
    for layer in LAYERS:
        gradient = stepped.get(id(layer.weight))
        if gradient is not None and layer.handed and layer.handed.gave(gradient):
            raise RuntimeError(
                "a GradScaler divides gradients by its scale, but the update of a Hebbian layer "
                "was not multiplied by it. Give Hebbian layers an optimizer of their own and call "
                "its step() without the scaler"
            )


def _steps_a_scaler() -> bool:
    """Whether an enabled GradScaler called the optimizer's step, through few wrappers."""
    frame = sys._getframe(2)
    for _ in range(6):
        if frame is None:
            return False
        if frame.f_code in SCALED_STEPS:
            return frame.f_locals["self"].is_enabled()
        frame = frame.f_back
    return False
