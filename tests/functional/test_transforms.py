"""The functions inside torch.func, and differentiated twice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import functional
from tests.tolerances import TOLERANCES, assert_close


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def u(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options) -> Tensor:
    if weight.dim() == 2:
        return functional.softhebb_linear(x, weight, bias, **options).u
    return functional.softhebb_conv2d(x, weight, bias, **options).u


CASES = {
    "linear": (tensors((3, 6), (4, 6), (4,)), {}),
    "conv": (tensors((2, 3, 5, 5), (4, 3, 3, 3), (4,)), {"padding": 1, "stride": 2}),
    "groups": (tensors((2, 4, 5, 5), (4, 2, 3, 3), (4,)), {"groups": 2}),
    "pre_triangle": (tensors((2, 3, 5, 5), (4, 3, 3, 3), (4,)), {"pre_triangle": True}),
    "lebesgue_p": (tensors((3, 6), (4, 6), (4,)), {"lebesgue_p": 3.0}),
}


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_the_gradient_of_u(name, backend):
    inputs, options = CASES[name]
    inputs = [t.clone().requires_grad_() for t in inputs]
    function = lambda *t: u(*t, backend=backend, **options)  # noqa: E731
    assert torch.autograd.gradgradcheck(function, inputs)
    inputs[1].requires_grad_(False)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_a_gradient_that_is_not_differentiated_again_has_no_graph():
    x, weight, _ = (t.clone().requires_grad_() for t in CASES["conv"][0])
    gradients = torch.autograd.grad(u(x, weight).sum(), (x, weight))
    assert not any(g.requires_grad for g in gradients)


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd, torch.func.hessian])
def test_derivatives_by_torch_func(transform):
    x, weight, _ = CASES["linear"][0]
    found = transform(lambda w: u(x, w).pow(2).sum(dim=0))(weight)
    expected = transform(lambda w: F.linear(x, w).pow(2).sum(dim=0))(weight)
    assert_close(found, expected, TOLERANCES["float64"])


def test_updates_of_many_batches_at_once():
    x, weight = tensors((5, 2, 3, 6, 6), (4, 3, 3, 3))
    found = torch.func.vmap(lambda x: functional.softhebb_conv2d(x, weight).delta_w)(x)
    for batch, update in zip(x, found, strict=True):
        expected = functional.softhebb_conv2d(batch, weight).delta_w
        assert_close(update, expected, TOLERANCES["float64"])


def test_a_kernel_that_is_asked_for_says_that_it_cannot():
    x, weight, _ = CASES["linear"][0]
    with pytest.raises(RuntimeError, match=r"backend='cpp': kernels cannot follow torch\.func"):
        torch.func.grad(lambda w: u(x, w, backend="cpp").sum())(weight)


def test_other_process_groups_are_refused():
    x, weight, _ = CASES["linear"][0]
    with pytest.raises(TypeError, match=r"process_group must be a torch\.distributed.ProcessGroup"):
        u(x, weight, process_group="world")
