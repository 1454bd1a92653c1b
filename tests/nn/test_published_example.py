"""Models written for the published example's layer learn the same after a change of import."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn

from softhebb_fast import SoftHebbConv2d, Triangle, optim
from tests.nn.example import ExampleConv2d, ExampleNet, NormRates, RowRateSGD
from tests.tolerances import TOLERANCES, assert_close

IN_PLACE = tuple({"update": "in_place", "lr": lr} for lr in (0.08, 0.005, 0.01))
LITERAL = {"backend": "reference"}


def images(steps: int = 4, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(5, 2, 16, 16, generator=generator).to(dtype) for _ in range(steps)]


def seeded(conv: type, options=({}, {}, {})) -> ExampleNet:
    torch.manual_seed(0)
    return ExampleNet(conv, Triangle, options)


@torch.no_grad()
def train_as_published(net: ExampleNet, batches: list[torch.Tensor]) -> ExampleNet:
    optimizer = RowRateSGD(net.hebbian_groups(), lr=0)
    rates = NormRates(optimizer)
    for x in batches:
        optimizer.zero_grad()
        net(x)
        optimizer.step()
        rates.step()
    return net


@torch.no_grad()
def run(net: ExampleNet, batches: list[torch.Tensor]) -> ExampleNet:
    for x in batches:
        net(x)
    return net


def assert_same_filters(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_the_layer_replaces_the_published_one():
    published = train_as_published(seeded(ExampleConv2d).double(), images(dtype=torch.float64))
    ours = train_as_published(seeded(SoftHebbConv2d).double(), images(dtype=torch.float64))
    start = seeded(SoftHebbConv2d).double()
    for name in ("conv1", "conv2", "conv3"):
        expected = getattr(published, name).weight
        assert not torch.equal(expected, getattr(start, name).weight)
        assert_close(getattr(ours, name).weight, expected, TOLERANCES["float64_steps"])
    assert torch.equal(ours.classifier.weight, start.classifier.weight)


def test_one_seed_gives_the_published_start():
    assert_same_filters(seeded(SoftHebbConv2d), seeded(ExampleConv2d))


def test_the_in_place_rule_takes_the_published_steps_bit_for_bit():
    published = train_as_published(seeded(SoftHebbConv2d, [LITERAL] * 3), images())
    ours = run(seeded(SoftHebbConv2d, [options | LITERAL for options in IN_PLACE]), images())
    assert_same_filters(ours, published)


@pytest.mark.parametrize("sign", [1, -1], ids=["maximize", "negative"])
def test_the_hook_makes_torch_sgd_take_the_same_steps(sign):
    batches = images(dtype=torch.float64)
    expected = run(seeded(SoftHebbConv2d, IN_PLACE).double(), batches)
    net = seeded(SoftHebbConv2d).double()
    optimizer = torch.optim.SGD(net.hebbian_groups(sign), lr=0, maximize=sign == 1)
    optim.norm_dependent(optimizer)
    for x in batches:
        optimizer.zero_grad()
        net(x)
        optimizer.step()
    for a, b in zip(net.parameters(), expected.parameters(), strict=True):
        assert_close(a, b, TOLERANCES["float64"])


def test_the_gradient_is_assigned_and_not_accumulated():
    layer = SoftHebbConv2d(2, 4, 3)
    first, second = images(2)
    layer(first)
    once = layer.weight.grad.clone()
    layer(first)
    assert torch.equal(layer.weight.grad, once)
    layer(second)
    alone = copy.deepcopy(layer)
    alone.zero_grad()
    alone(second)
    assert torch.equal(layer.weight.grad, alone.weight.grad)
    assert not torch.equal(layer.weight.grad, once)
    assert layer.weight.grad.abs().max() == 1


def test_the_first_eight_arguments_are_the_published_ones():
    arguments = inspect.signature(SoftHebbConv2d).parameters
    published = inspect.signature(ExampleConv2d).parameters
    assert list(arguments)[:8] == list(published)
    for name, argument in published.items():
        assert arguments[name].default == argument.default
    assert {a.kind for a in list(arguments.values())[8:]} == {inspect.Parameter.KEYWORD_ONLY}
    layer = SoftHebbConv2d(4, 6, 3, 2, 1, 2, 2, 0.5)
    assert (layer.in_channels, layer.out_channels, layer.groups, layer.t_invert) == (4, 6, 2, 0.5)
    assert (layer.kernel_size, layer.stride) == ((3, 3), (2, 2))
    assert (layer.padding, layer.dilation) == ((1, 1), (2, 2))


def test_the_defaults_are_the_published_ones():
    layer = SoftHebbConv2d(4, 6, 3)
    assert (layer.t_invert, layer.wta, layer.padding_mode) == (12.0, "soft_anti", "reflect")
    assert (layer.update, layer.lr, layer.lr_power, layer.bias) == ("grad", None, 0.5, None)
    assert layer.training
    assert layer.weight.requires_grad


def test_one_step_of_the_layer_is_the_published_one():
    example = seeded(ExampleConv2d).double().conv1
    ours = seeded(SoftHebbConv2d).double().conv1
    (x,) = images(1, torch.float64)
    assert_close(ours(x), example(x), TOLERANCES["float64"])
    assert_close(ours.weight.grad, example.weight.grad, TOLERANCES["float64"])


def test_rows_and_columns_left_over_by_a_stride_are_ignored():
    layer = SoftHebbConv2d(2, 4, 3, stride=2)
    (x,) = images(1)
    u, update = layer(x), layer.weight.grad
    x[:, :, 15], x[:, :, :, 15] = 9.0, -9.0
    assert torch.equal(layer(x), u)
    assert torch.equal(layer.weight.grad, update)
