"""Initialisation, statistics and the errors of every SoftHebb layer's constructor."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from softhebb_fast import SoftHebbConv2d, init
from tests.nn.layers import IN_PLACE, batch, make, moved
from tests.tolerances import TOLERANCES


def test_one_generator_seed_gives_one_start(kind):
    layer = make(kind, seed=3)
    start = layer.weight.detach().clone()
    assert torch.equal(make(kind, seed=3).weight, start)
    assert moved(make(kind, seed=4), start)
    layer.reset_parameters(torch.Generator().manual_seed(4))
    assert moved(layer, start)
    layer.reset_parameters(torch.Generator().manual_seed(3))
    assert torch.equal(layer.weight, start)


def test_the_start_is_the_published_one():
    torch.manual_seed(0)
    first = SoftHebbConv2d(3, 96, 5).weight.flatten()[:3].tolist()
    assert first == pytest.approx([-3.2500198, -3.3265774, -0.7233581], rel=TOLERANCES["float32_u"])


def test_init_is_a_name_a_dict_or_a_callable(kind):
    zero = {"name": "zerO", "scale": "fork"}
    for given, expected in (
        ("constant", lambda w: init.constant_(w, radius=3.0)),
        ("zerO", init.zerO_),
        (zero, lambda w: init.zerO_(w, "fork")),
        (lambda w: w.fill_(0.5), lambda w: w.fill_(0.5)),
    ):
        layer = make(kind, init=given)
        assert torch.equal(layer.weight, expected(torch.empty(layer.weight.shape)))
        with torch.no_grad():
            layer.weight.zero_()
        layer.reset_parameters()
        assert torch.equal(layer.weight, expected(torch.empty(layer.weight.shape)))
    with pytest.raises(ValueError, match="init must be one of normal"):
        make(kind, init="xavier")


def test_a_bias_starts_as_a_uniform_prior(kind):
    layer = make(kind, bias=True, t_invert=4.0)
    assert layer.bias.tolist() == pytest.approx([-0.5198604] * 8)  # log(1 / 8) / 4


@pytest.mark.parametrize("wta", ["hard", "hard_anti"])
def test_random_biases_decide_hard_competitions_of_zero_weights(kind, wta):
    layer = make(kind, wta=wta, bias=True, init="random_bias", **IN_PLACE)
    bias = layer.bias.detach().clone()
    assert not layer.weight.any()
    assert bias.unique().numel() == 8
    layer(batch(kind).abs())
    order = bias.argsort(descending=True)
    learnt = {order[0].item()} if wta == "hard" else {order[0].item(), order[2].item()}
    assert set(layer.weight.flatten(1).any(dim=1).nonzero().flatten().tolist()) == learnt
    assert torch.equal(layer.bias, bias)


# Statistics


def two_filters(kind: str, first: float, second: float, **options) -> nn.Module:
    """A layer whose filters 0 and 1 have these norms and all others the norm 1."""
    layer = make(kind, init="partial_identity", **options)
    with torch.no_grad():
        flat = layer.weight.zero_().view(8, -1)
        flat[:, 0] = 1
        flat[0, :2] = torch.tensor([0.6, 0.8]) * first
        flat[1, 0] = -second
    return layer


def test_norms_rates_and_convergence_by_hand(kind):
    layer = two_filters(kind, 5.0, 2.0, lr=0.1)
    assert layer.norms().tolist() == pytest.approx([5, 2, 1, 1, 1, 1, 1, 1])
    distance, converged = layer.convergence()
    assert distance == pytest.approx((4 + 1) / 8)
    assert converged == 6
    # 0.1 sqrt(4), 0.1 sqrt(1), 0.1 sqrt(1e-10)
    assert layer.learning_rates().tolist() == pytest.approx([0.2, 0.1] + [1e-6] * 6, rel=1e-5)
    layer.lr_power = 0.25
    assert layer.learning_rates()[0].item() == pytest.approx(0.1 * 2**0.5)
    layer.lr = 0.3
    assert layer.learning_rates()[1].item() == pytest.approx(0.3)


def test_norms_of_another_order(kind):
    layer = two_filters(kind, 5.0, 2.0, lr=0.1, lebesgue_p=1.0)
    assert layer.norms()[:3].tolist() == pytest.approx([7, 2, 1])
    assert layer.learning_rates()[0].item() == pytest.approx(0.1 * 6**0.5)


def test_convergence_counts_neurons_within_the_published_distance(kind):
    near, far = (1.0049, 1.0051) if kind == "linear" else (1.0099, 1.0101)
    assert two_filters(kind, near, 2 - near).convergence()[1] == 8
    assert two_filters(kind, far, 2 - near).convergence()[1] == 7
    assert two_filters(kind, far, 2 - far).convergence()[1] == 6


def test_rates_need_a_base_rate(kind):
    with pytest.raises(ValueError, match="lr must be given to compute rates"):
        make(kind).learning_rates()


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": "both"}, "update must be one of grad, in_place; got 'both'"),
        ({"update": "in_place"}, "lr must be given for update='in_place'"),
        ({"update": "in_place", "lr": -0.1}, "lr must not be negative.*got -0.1"),
        ({"lr": float("nan")}, "lr must not be negative.*got nan"),
        ({"backend": "cuda"}, "backend must be one of auto"),
        ({"wta": "softkrotov"}, "wta must be one of soft_anti, soft, hard, hard_anti"),
        ({"t_invert": 0.0}, "t_invert must be positive"),
        ({"lebesgue_p": 0.5}, "lebesgue_p must be at least 1"),
        ({"wta": "hard_anti", "rank": 9}, r"rank must lie in 1\.\.8"),
        ({"radius": -1.0}, "radius must be a positive"),
    ],
)
def test_bad_values_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": "2"}, "delta must be a number"),
        ({"rank": 1.5}, "rank must be an int"),
        ({"t_invert": None}, "t_invert must be a number"),
        ({"init": 3}, "init must be a name, a dict"),
    ],
)
def test_bad_types_are_named(kind, options, message):
    with pytest.raises(TypeError, match=message):
        make(kind, **options)


@pytest.mark.parametrize(
    ("rate", "error"), [(-0.1, ValueError), (float("nan"), ValueError), ("x", TypeError)]
)
def test_a_rate_that_is_set_later_is_checked_at_the_step(kind, rate, error):
    layer, x = make(kind, **IN_PLACE), batch(kind)
    start = layer.weight.detach().clone()
    layer.lr = rate
    for call in (lambda: layer(x), layer.learning_rates):
        with pytest.raises(error, match="lr must"):
            call()
    assert torch.equal(layer.weight, start)
