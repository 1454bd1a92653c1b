"""Gradients of u in x, weight and bias; the update is a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import reference
from softhebb_fast.extension import LIBRARY, call
from softhebb_fast.ops.schema import options


def _save(ctx: Any, inputs: tuple, output: tuple) -> None:
    x, weight, _, *ctx.values = inputs
    ctx.save_for_backward(x, weight, output[0])


def _conv_gradients(ctx: Any, grad_u: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    convolution, competition, _ = options("conv_update", ctx.values)
    if convolution.pre_triangle:
        grad_u = grad_u * (ctx.saved_tensors[2] > 0)
        grad_u = grad_u - grad_u.mean(dim=1, keepdim=True)

    def product(x: Tensor, weight: Tensor) -> Tensor:
        c = convolution
        wt = reference.lebesgue_weight(weight, competition.lebesgue_p)
        x = reference.pad(x, c.padding, c.padding_mode)
        return reference.convolve(x, wt, None, c.stride, (0, 0), c.dilation, c.groups)

    return _gradients(ctx, grad_u, product)


def _linear_gradients(ctx: Any, grad_u: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    competition, _ = options("linear_update", ctx.values)

    def product(x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, reference.lebesgue_weight(weight, competition.lebesgue_p))

    return _gradients(ctx, grad_u, product)


def _gradients(
    ctx: Any, grad_u: Tensor, product: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight and bias: the product is linear in x, its graph is built here.

    With ``create_graph=True`` it hangs on that of x and weight, to be differentiated again.
    """
    needed = [i for i in (0, 1) if ctx.needs_input_grad[i]]
    grads = dict.fromkeys(range(3 + len(ctx.values)))
    if needed:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            saved = ctx.saved_tensors[:2]
            inputs = [t.view_as(t) if again and t.requires_grad else _leaf(t) for t in saved]
            wanted = [inputs[i] for i in needed]
            found = torch.autograd.grad(product(*inputs), wanted, grad_u, create_graph=again)
        grads |= zip(needed, found, strict=True)
    if ctx.needs_input_grad[2]:
        grads[2] = grad_u.transpose(0, 1).flatten(1).sum(dim=1)
    return tuple(grads.values())


def _leaf(t: Tensor) -> Tensor:
    return t.detach().requires_grad_()


for _name, _gradient in (("conv_update", _conv_gradients), ("linear_update", _linear_gradients)):
    torch.library.register_autograd(
        f"softhebb_fast::{_name}", _gradient, setup_context=_save, lib=LIBRARY
    )
torch.library.register_autograd(
    "softhebb_fast::dropout",
    lambda ctx, grad: (call.dropout(grad, *ctx.drawn), None, None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "drawn", inputs[1:]),
    lib=LIBRARY,
)
