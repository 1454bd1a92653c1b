"""``schedule=``: the base rate as a function of the steps made so far."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from softhebb_fast import SoftHebbBlock, SoftHebbConv1d, SoftHebbConv2d, SoftHebbLinear, optim

DECAY = optim.LinearDecay(0.1, 4)
MAKE = {
    "conv2d": (lambda **o: SoftHebbConv2d(2, 4, 3, update="in_place", **o), (3, 2, 6, 6)),
    "conv1d": (lambda **o: SoftHebbConv1d(2, 4, 3, update="in_place", **o), (3, 2, 6)),
    "linear": (lambda **o: SoftHebbLinear(5, 4, update="in_place", **o), (3, 5)),
    "bias": (lambda **o: SoftHebbLinear(5, 4, bias=True, update="in_place", **o), (3, 5)),
    "block": (lambda **o: SoftHebbBlock(2, 4, 3, update="in_place", **o), (3, 2, 6, 6)),
}


def layer_of(module: nn.Module) -> nn.Module:
    return getattr(module, "layer", module)


def batches(shape: tuple[int, ...], count: int = 6) -> list[torch.Tensor]:
    return [torch.randn(shape) for _ in range(count)]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "schedule", [DECAY, optim.ExponentialDecay(0.1, 5), lambda n: 0.1 / (n + 1)]
)
@pytest.mark.parametrize("kind", MAKE)
def test_it_is_a_layer_whose_rate_is_set_before_every_step(kind, schedule, graph):
    make, shape = MAKE[kind]
    torch.manual_seed(1)
    one = make(schedule=schedule)
    torch.manual_seed(1)
    other = make(lr=1.0)
    for step, x in enumerate(batches(shape)):
        layer_of(other).lr = schedule(step)
        one(x.clone().requires_grad_(graph))
        other(x.clone().requires_grad_(graph))
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
    assert layer_of(one).steps == 6


@pytest.mark.parametrize("kind", MAKE)
def test_a_saved_layer_goes_on(kind, tmp_path):
    make, shape = MAKE[kind]
    whole, xs = make(schedule=DECAY), batches(shape)
    for x in xs[:2]:
        whole(x)
    torch.save(whole.state_dict(), tmp_path / "layer.pt")
    again = make(schedule=DECAY)
    again.load_state_dict(torch.load(tmp_path / "layer.pt"))
    rest = [again, copy.deepcopy(whole), pickle.loads(pickle.dumps(whole)), whole]
    for x in xs[2:]:
        for net in rest:
            net(x)
    for net in rest:
        assert torch.equal(layer_of(net).weight, layer_of(whole).weight)
        assert layer_of(net).steps == 6


def test_only_steps_count():
    layer = SoftHebbLinear(5, 4, update="in_place", schedule=DECAY)
    x = torch.randn(3, 5)
    layer.eval()(x)
    layer.train().hebbian_update(x)
    layer.requires_grad_(False)(x)
    layer.requires_grad_(True)
    with pytest.raises(ValueError, match="x must be"):
        layer(torch.randn(3, 6))
    assert layer.steps == 0
    rates = layer.learning_rates()
    layer(x)
    assert layer.steps == 1
    assert not torch.equal(layer.learning_rates(), rates)
    layer.reset_parameters()
    assert layer.steps == 0


def test_states_with_and_without_a_count():
    plain = SoftHebbLinear(5, 4, update="in_place", lr=0.1)
    assert "steps" not in plain.state_dict()
    layer = SoftHebbLinear(5, 4, update="in_place", schedule=DECAY)
    layer(torch.randn(3, 5))
    state = layer.state_dict()
    assert state["steps"].item() == 1
    plain.load_state_dict(state)  # its weights are what it is loaded for
    layer.load_state_dict(SoftHebbLinear(5, 4).state_dict())
    assert layer.steps == 0
    net = nn.Sequential(layer, SoftHebbLinear(4, 3, update="in_place", schedule=DECAY))
    net(torch.randn(3, 5))
    net.load_state_dict({"1.bias": torch.ones(1)}, strict=False)
    assert [part.steps for part in net] == [1, 1]
    with pytest.raises(ValueError, match="steps must be at least 0"):
        layer.load_state_dict(state | {"steps": torch.tensor(-1)})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"schedule": 0.1}, TypeError, "schedule must be a function of the step; got 0.1"),
        ({"schedule": DECAY, "update": "grad"}, ValueError, "schedule is for update='in_place'"),
        ({"schedule": DECAY, "lr": 0.2}, ValueError, "lr must be left out, or be the rate"),
    ],
)
def test_mistakes(options, error, message):
    with pytest.raises(error, match=message):
        SoftHebbLinear(5, 4, **{"update": "in_place"} | options)


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf, "high", None])
def test_a_rate_that_is_none_changes_nothing(rate):
    layer = SoftHebbLinear(5, 4, update="in_place", schedule=lambda step: rate)
    before = layer.weight.clone()
    with pytest.raises((TypeError, ValueError), match="schedule"):
        layer(torch.randn(3, 5))
    assert torch.equal(layer.weight, before)
    assert layer.steps == 0


def test_its_first_rate_may_be_given_and_is_shown():
    layer = SoftHebbLinear(5, 4, update="in_place", lr=0.1, schedule=DECAY)
    assert "schedule=LinearDecay(lr=0.1, total_steps=4), lr_power=0.5" in repr(layer)


def test_compiled_layers_follow_it():
    torch.manual_seed(1)
    one = SoftHebbConv2d(2, 4, 3, update="in_place", schedule=DECAY)
    other = copy.deepcopy(one)
    compiled = torch.compile(other, backend="eager")
    for x in batches((3, 2, 6, 6)):
        one(x)
        compiled(x)
        torch.testing.assert_close(other.weight, one.weight)
    assert other.steps == 6
