from __future__ import annotations

import pytest
import torch
from torch import nn

from softhebb_fast import RePU, Triangle
from softhebb_fast.nn import Softmax
from tests.tolerances import TOLERANCES, assert_close

POWERS = (0.5, 0.7, 1.0, 1.4, 2.0)
SHAPES = ((4, 6), (2, 6, 5), (2, 6, 3, 4))


def randn(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_triangle_by_hand():
    u = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    assert Triangle()(u).tolist() == [[0, 0, 3], [0, 0, 0]]
    assert Triangle(2.0)(u).tolist() == [[0, 0, 9], [0, 0, 0]]
    assert Triangle(0.5)(u)[0, 2].item() == pytest.approx(3**0.5)


def test_repu_by_hand():
    u = torch.tensor([[-1.0, 0.0, 4.0]])
    assert RePU()(u).tolist() == [[0, 0, 4]]
    assert RePU(2.0)(u).tolist() == [[0, 0, 16]]
    assert RePU(0.5)(u).tolist() == [[0, 0, 2]]


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_powers_follow_the_formulas_in_every_shape(shape, power):
    u = randn(*shape)
    above = u - u.sum(dim=1, keepdim=True) / 6
    triangle = torch.where(above > 0, above.abs() ** power, 0.0)
    assert_close(Triangle(power)(u), triangle, TOLERANCES["float64"])
    repu = torch.where(u > 0, u.abs() ** power, 0.0)
    assert_close(RePU(power)(u), repu, TOLERANCES["float64"])
    single = Triangle(power)(u.float())
    assert single.dtype == torch.float32
    assert_close(single, triangle, TOLERANCES["float32_u"])


@pytest.mark.parametrize("power", POWERS)
def test_the_mean_is_a_constant_to_autograd(power):
    u = randn(3, 6, 2, 2).requires_grad_()
    Triangle(power)(u).sum().backward()
    above = (u - u.mean(dim=1, keepdim=True)).detach()
    expected = torch.where(above > 0, power * above.abs() ** (power - 1), 0.0)
    assert_close(u.grad, expected, TOLERANCES["float64"])


@pytest.mark.parametrize("activation", [Triangle, RePU])
def test_no_gradient_is_nan_where_the_output_is_zero(activation):
    u = torch.tensor([[0.0, 0.0], [-1.0, 1.0]], requires_grad=True)
    activation(0.7)(u).sum().backward()
    assert u.grad.flatten().tolist() == pytest.approx([0, 0, 0, 0.7])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_is_over_the_channels(shape):
    u = randn(*shape)
    e = (3.0 * u).exp()
    assert_close(Softmax(3.0)(u), e / e.sum(dim=1, keepdim=True), TOLERANCES["float64"])


def test_the_input_stays_as_it_is_and_nothing_is_learned():
    u = randn(2, 6)
    before = u.clone()
    for activation in (Triangle(1.4), Triangle(), RePU(2.0), RePU(), Softmax()):
        activation(u)
        assert list(activation.state_dict()) == []
    assert torch.equal(u, before)


def test_representations():
    net = nn.Sequential(Triangle(0.7), RePU(2.0), Softmax(12.0))
    shown = "(0): Triangle(power=0.7)\n  (1): RePU(power=2.0)\n  (2): Softmax(t_invert=12.0)"
    assert shown in repr(net)


@pytest.mark.parametrize("activation", [Triangle, RePU, Softmax])
@pytest.mark.parametrize("value", [0, -0.7, float("nan"), float("inf")])
def test_the_parameter_must_be_positive(activation, value):
    with pytest.raises(ValueError, match=rf"must be positive and finite; got {value}"):
        activation(value)
