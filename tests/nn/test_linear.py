"""What is the fully connected layer's own."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F

from softhebb_fast import SoftHebbLinear


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer_of(weight: list[list[float]], **options) -> SoftHebbLinear:
    layer = SoftHebbLinear(len(weight[0]), len(weight), **options)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def test_a_step_by_hand():
    layer = layer_of([[2, 0], [0, 2]], wta="hard", update="in_place", lr=0.3)
    u = layer(torch.tensor([[1.0, 0.5]]))
    assert u.tolist() == [[2, 1]]
    # the winner's x - u W = (1, 1/2) - 2 (2, 0) = (-3, 1/2), over 3, at the rate 0.3 sqrt(2 - 1)
    assert layer.weight.flatten().tolist() == pytest.approx([1.7, 0.05, 0, 2])


def test_the_neuron_of_the_rank_is_overwritten():
    layer = layer_of([[0.5, 0], [0, 0.5]], wta="hard_anti", rank=1, delta=1.0)
    layer(torch.tensor([[1.0, 0.0]]))
    # y = -1 for the winner, where a convolution has 1 - 1: D = -(x - u W) = (-3/4, 0)
    assert layer.weight.grad.tolist() == [[-1, 0], [0, 0]]


def test_the_bias_learns_by_hand():
    layer = layer_of([[0], [0]], t_invert=2.0, bias=True)
    with torch.no_grad():
        layer.bias.zero_()
    layer(torch.ones(3, 1))
    # y = (1/2, -1/2) less e^0: (-1/2, -3/2), (-1/3, -1) after normalisation, times 1 / t
    assert layer.bias.grad.tolist() == pytest.approx([-1 / 6, -1 / 2])


def test_every_leading_dimension_is_batch():
    layer, x = SoftHebbLinear(5, 4), rows(2, 3, 5)
    u, update = layer(x), layer.weight.grad
    assert u.shape == (2, 3, 4)
    assert torch.equal(layer(x.view(6, 5)).view(2, 3, 4), u)
    assert torch.equal(layer.weight.grad, update)
    assert layer.eval()(x).shape == (2, 3, 4)


def test_evaluation_is_the_torch_product():
    layer, x = SoftHebbLinear(5, 4, bias=True).eval(), rows(2, 3, 5)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    layer = SoftHebbLinear(5, 4, lebesgue_p=3.0).eval()
    assert torch.equal(layer(x), F.linear(x, layer.weight.sign() * layer.weight.abs() ** 2))


def test_the_defaults_are_those_of_the_convolution():
    arguments = inspect.signature(SoftHebbLinear).parameters
    assert list(arguments)[:3] == ["in_features", "out_features", "t_invert"]
    assert {a.kind for a in list(arguments.values())[3:]} == {inspect.Parameter.KEYWORD_ONLY}
    layer = SoftHebbLinear(5, 4)
    assert (layer.t_invert, layer.wta, layer.bias) == (12, "soft_anti", None)
    assert (layer.update, layer.lr, layer.lr_power) == ("grad", None, 0.5)


def test_the_representation_names_what_is_not_default():
    assert repr(SoftHebbLinear(784, 2000, update="in_place", lr=0.045)) == (
        "SoftHebbLinear(784, 2000, t_invert=12.0, wta='soft_anti', update='in_place', "
        "lr=0.045, lr_power=0.5)"
    )


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="in_features must be at least 1; got 0"):
        SoftHebbLinear(0, 4)
    with pytest.raises(TypeError, match=r"out_features must be an int; got 4\.0"):
        SoftHebbLinear(5, 4.0)
    for layer in (SoftHebbLinear(5, 4), SoftHebbLinear(5, 4).eval()):
        with pytest.raises(ValueError, match=r"x must be \[\.\.\., 5\]; got \(2, 6\)"):
            layer(rows(2, 6))
        with pytest.raises(ValueError, match=r"x must be \[\.\.\., 5\]; got \(6,\)"):
            layer(rows(6))
