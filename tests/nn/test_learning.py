"""What every SoftHebb layer computes, learns and passes on to autograd."""

from __future__ import annotations

import copy

import pytest
import torch

from softhebb_fast import functional, optim
from tests.nn.layers import IN_PLACE, batch, make, moved, product
from tests.tolerances import TOLERANCES, assert_close


@pytest.mark.parametrize("bias", [False, True])
def test_both_modes_compute_the_product(kind, bias):
    layer, x = make(kind, bias=bias), batch(kind)
    expected = product(layer, x, layer.weight)
    assert_close(layer(x), expected, TOLERANCES["float32_u"])
    assert_close(layer.eval()(x), expected, TOLERANCES["float32_u"])


def test_training_returns_u_from_the_weights_before_the_step(kind):
    layer, x = make(kind, **IN_PLACE), batch(kind)
    start = layer.weight.detach().clone()
    before = copy.deepcopy(layer).eval()(x)
    assert_close(layer(x), before, TOLERANCES["float32_u"])
    assert moved(layer, start)
    assert (layer.eval()(x) - before).abs().max() > 0.01


def test_evaluation_learns_nothing(kind):
    for options in ({}, IN_PLACE):
        layer = make(kind, bias=True, **options).eval()
        start = copy.deepcopy(layer.state_dict())
        layer(batch(kind))
        assert layer.weight.grad is None
        assert layer.bias.grad is None
        assert all(torch.equal(v, start[k]) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("wta", ["soft_anti", "soft", "hard", "hard_anti"])
def test_the_grad_convention_and_the_in_place_rule_agree(kind, wta, bias):
    options = {"wta": wta, "bias": bias, "dtype": torch.float64, "lr_power": 0.3}
    alone = make(kind, update="in_place", lr=0.1, **options)
    driven = make(kind, **options)
    optimizer = torch.optim.SGD(driven.parameters(), lr=0.1, maximize=True)
    optim.norm_dependent(optimizer, lr_power=0.3)
    start = copy.deepcopy(alone.state_dict())
    for step in range(3):
        x = batch(kind, step, torch.float64)
        alone(x)
        optimizer.zero_grad()
        driven(x)
        optimizer.step()
    for name, value in alone.state_dict().items():
        learns = name == "weight" or wta.startswith("soft")
        assert torch.equal(value, start[name]) != learns
        assert_close(driven.state_dict()[name], value, TOLERANCES["float64"])


def test_adam_moves_every_weight_by_its_rate_along_the_update(kind):
    layer = make(kind)
    start = layer.weight.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01, maximize=True)
    layer(batch(kind))
    optimizer.step()
    clear = layer.weight.grad.abs() > 1e-3
    assert clear.any()
    step = (layer.weight.detach() - start)[clear]
    torch.testing.assert_close(step, 0.01 * layer.weight.grad[clear].sign(), rtol=1e-3, atol=0)


def test_lr_power_zero_gives_the_plain_rate(kind):
    layer, x = make(kind, lr_power=0, **IN_PLACE), batch(kind)
    start = layer.weight.detach().clone()
    driven = make(kind)
    driven(x)
    layer(x)
    assert torch.equal(layer.learning_rates(), torch.full((8,), 0.1))
    assert_close(layer.weight, start + 0.1 * driven.weight.grad, TOLERANCES["float32_delta_w"])


def test_the_layer_gives_the_functional_update(kind):
    options = {"wta": "hard_anti", "delta": 0.5, "rank": 2, "lebesgue_p": 3.0}
    layer, x = make(kind, **options), batch(kind)
    call, geometry = functional.softhebb_conv2d, {"padding": 1}
    weight = layer.weight.detach()
    if kind == "linear":
        call, geometry = functional.softhebb_linear, {}
    elif kind == "conv1d":
        call, weight = functional.softhebb_conv1d, weight.squeeze(2)
    expected = call(x, weight, t_invert=2.0, **geometry, **options)
    assert torch.equal(layer(x), expected.u)
    assert torch.equal(layer.weight.grad, expected.delta_w.view_as(layer.weight))


# Autograd


@pytest.mark.parametrize("options", [{}, IN_PLACE], ids=["grad", "in_place"])
def test_learning_leaves_no_graph_behind(kind, options):
    layer = make(kind, bias=True, **options)
    assert not layer(batch(kind)).requires_grad
    assert layer.weight.is_leaf
    assert layer.weight.requires_grad
    if layer.weight.grad is not None:
        assert not layer.weight.grad.requires_grad
    with torch.no_grad():
        assert not layer(batch(kind).requires_grad_()).requires_grad


@pytest.mark.parametrize("options", [{}, IN_PLACE], ids=["grad", "in_place"])
def test_the_input_gradient_is_that_of_the_product(kind, options):
    layer = make(kind, bias=True, dtype=torch.float64, **options)
    weight = layer.weight.detach().clone()
    x, twin = (batch(kind, dtype=torch.float64).requires_grad_() for _ in range(2))
    product(copy.deepcopy(layer), twin, weight).square().sum().backward()
    u = layer(x)
    update = None if layer.weight.grad is None else layer.weight.grad.clone()
    u.square().sum().backward()
    assert_close(x.grad, twin.grad, TOLERANCES["float64"])
    if options:
        assert layer.weight.grad is None
        assert moved(layer, weight)
    else:
        assert torch.equal(layer.weight.grad, update)


def test_evaluation_is_differentiable_like_a_plain_layer(kind):
    layer, x = make(kind, dtype=torch.float64).eval(), batch(kind, dtype=torch.float64)
    weight = layer.weight.detach().clone().requires_grad_()
    product(layer, x, weight).square().sum().backward()
    layer(x).square().sum().backward()
    assert_close(layer.weight.grad, weight.grad, TOLERANCES["float64"])


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_between_steps_changes_nothing(kind, set_to_none):
    layer, x = make(kind), batch(kind)
    layer(x)
    update = layer.weight.grad.clone()
    layer.zero_grad(set_to_none=set_to_none)
    assert (layer.weight.grad is None) == set_to_none
    layer(x)
    assert torch.equal(layer.weight.grad, update)


def test_inference_mode_learns_and_leaves_ordinary_tensors(kind):
    alone, driven, x = make(kind, **IN_PLACE), make(kind, bias=True), batch(kind)
    start = alone.weight.detach().clone()
    with torch.inference_mode():
        alone(x)
        driven(x)
    assert moved(alone, start)
    assert not alone.weight.is_inference()
    assert not driven.weight.grad.is_inference()
    optimizer = torch.optim.SGD(driven.parameters(), lr=0.1, momentum=0.9, maximize=True)
    optim.norm_dependent(optimizer)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    driven.eval()(x).sum().backward()
    assert driven.weight.grad.any()


def test_a_frozen_layer_is_a_plain_one(kind):
    for options in ({}, IN_PLACE):
        layer = make(kind, bias=True, **options)
        start = copy.deepcopy(layer.state_dict())
        layer.weight.requires_grad_(False)
        layer(batch(kind))
        assert layer.weight.grad is None
        assert layer.bias.grad is None
        assert all(torch.equal(v, start[k]) for k, v in layer.state_dict().items())


def test_a_bias_may_be_frozen_alone(kind):
    for options in ({}, IN_PLACE):
        layer = make(kind, bias=True, wta="soft", **options)
        weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
        layer.bias.requires_grad_(False)
        layer(batch(kind))
        assert torch.equal(layer.bias, bias)
        assert layer.bias.grad is None
        assert moved(layer, weight) if options else layer.weight.grad is not None


@pytest.mark.parametrize("training", [True, False])
def test_an_update_that_is_only_asked_for_changes_nothing(kind, training):
    layer, x = make(kind, bias=True, **IN_PLACE).train(training), batch(kind)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    out = layer.hebbian_update(x)
    assert_close(out.u, product(layer, x, layer.weight), TOLERANCES["float32_u"])
    assert out.u.shape == copy.deepcopy(layer).eval()(x).shape
    assert layer.weight.grad is None
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])
    layer.train()(x)
    functional.hebbian_step_(before["weight"], out.delta_w, layer.lr, layer.lr_power)
    assert_close(layer.weight, before["weight"], TOLERANCES["float32_u"])
