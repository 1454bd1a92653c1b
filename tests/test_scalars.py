"""Numbers of any kind are taken wherever a scalar is, and become plain ones."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from softhebb_fast import (
    RePU,
    SoftHebbBlock,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
    functional,
    init,
    models,
    optim,
    presets,
)
from softhebb_fast.nn import Softmax
from softhebb_fast.scalars import number, plain, whole
from softhebb_fast.training import RunConfig

WHOLE = [
    3,
    np.int64(3),
    np.uint8(3),
    np.array(3),
    torch.tensor(3),
    torch.tensor(3, dtype=torch.uint8),
]
REAL = [0.5, np.float64(0.5), np.float32(0.5), np.array(0.5), torch.tensor(0.5), Fraction(1, 2)]
NO_NUMBER = [True, np.True_, torch.tensor(True), "3", None, 3j, [3], torch.ones(2), Decimal(3)]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_numbers(value):
    assert type(whole("n", value)) is int
    assert whole("n", value) == 3
    assert number("n", value) == 3.0


@pytest.mark.parametrize("value", REAL, ids=repr)
def test_real_numbers(value):
    assert type(number("n", value)) is float
    assert number("n", value) == 0.5
    with pytest.raises(TypeError, match="n must be an int"):
        whole("n", value)


@pytest.mark.parametrize("value", [*NO_NUMBER, torch.tensor(3, device="meta")], ids=repr)
def test_what_is_no_number(value):
    for check in (whole, number):
        with pytest.raises(TypeError, match=r"^n must be"):
            check("n", value)


def test_plain_leaves_the_rest_alone():
    assert plain("a") == "a"
    assert plain(np.True_) is True
    with pytest.raises(ValueError, match="n must be finite"):
        number("n", 10**400)


@pytest.mark.parametrize("n", WHOLE, ids=repr)
def test_sizes_of_layers(n):
    layer = SoftHebbConv2d(n, n, n, (n, n), [n, n], n, n, wta="hard_anti", rank=1)
    assert repr(layer) == repr(SoftHebbConv2d(3, 3, 3, 3, 3, 3, 3, wta="hard_anti", rank=1))
    kept = layer.in_channels, layer.groups, *layer.kernel_size, *layer.stride, *layer.padding
    assert all(type(value) is int for value in kept)
    assert repr(SoftHebbLinear(n, n)) == repr(SoftHebbLinear(3, 3))
    assert repr(SoftHebbConv1d(n, n, [n])) == repr(SoftHebbConv1d(3, 3, 3))
    assert SoftHebbBlock(n, n, n).norm.num_features == 3


@pytest.mark.parametrize("r", REAL, ids=repr)
def test_rates_and_powers(r):
    options = {"t_invert": r, "lr": r, "lr_power": r, "radius": r, "delta": r, "lebesgue_p": 2}
    layer = SoftHebbLinear(4, 3, **options, update="in_place")
    plain_one = {key: type(getattr(layer, key)) for key in options}
    assert set(plain_one.values()) == {float}
    layer(torch.randn(5, 4))
    assert all(type(a(r).extra_repr()) is str for a in (Triangle, RePU, Softmax))
    assert Triangle(r).power == RePU(r).power == Softmax(r).t_invert == 0.5
    assert optim.LinearDecay(r, np.int64(4))(1) == optim.LinearDecay(0.5, 4)(1)
    assert optim.Milestones(r, (np.int64(1),), r)(1) == 0.25
    assert optim.ExponentialDecay(r, 9, r, r) == optim.ExponentialDecay(0.5, 9, 0.5, 0.5)
    weight = torch.ones(2, 3)
    assert torch.equal(
        functional.norm_dependent_rate(weight, r, r),
        functional.norm_dependent_rate(weight, 0.5, 0.5),
    )
    for fill in (init.normal_, init.positive_, init.hadamard_patches_):
        torch.manual_seed(0)
        one = fill(torch.empty(2, 8), r)
        torch.manual_seed(0)
        assert torch.equal(one, fill(torch.empty(2, 8), 0.5))
    assert (
        presets.scaled(presets.parse_network("hard-c8-k3 BP"), neuron_factor=r).layers[0].out == 4
    )


def test_functions_presets_models_and_configurations():
    x, w, three = torch.randn(2, 3, 9, 9), torch.randn(6, 1, 3, 3), np.int64(3)
    given = functional.softhebb_conv2d(x, w, groups=three, padding=np.array([1, 1]))
    assert torch.equal(given.u, functional.softhebb_conv2d(x, w, groups=3, padding=1).u)
    layer = presets.Layer(
        "conv", "soft_anti", out=np.int64(6), kernel=three, t_invert=np.float32(1)
    )
    assert layer == presets.Layer("conv", "soft_anti", out=6, kernel=3, t_invert=1.0)
    assert "np." not in repr(layer)
    assert presets.Pool("max", np.int64(2), torch.tensor(2)) == presets.Pool("max", 2, 2)
    net = models.network("perceptron", np.array([1, 4, 4]), three, hidden=np.array([5, 5]))
    assert [m.out_features for m in net if isinstance(m, nn.Linear)] == [5, 5, 3]
    config = RunConfig(
        "2SoftHebbCnnCIFAR", "mnist", seed=three, limit=three, cache_gib=np.float32(2)
    )
    assert config.to_dict()["seed"] == 3
    assert RunConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, np.float64("nan")])
def test_what_is_no_rate(value):
    with pytest.raises(ValueError, match="lr must not be negative"):
        SoftHebbLinear(4, 3, lr=value)
    with pytest.raises(ValueError, match="t_invert must be positive"):
        SoftHebbLinear(4, 3, t_invert=value)
