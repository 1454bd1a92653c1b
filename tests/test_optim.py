from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from softhebb_fast import SoftHebbConv2d, SoftHebbLinear, functional, optim


def parameter(*rows: list[float], grad: float = 1.0) -> nn.Parameter:
    p = nn.Parameter(torch.tensor(rows, dtype=torch.float64))
    p.grad = torch.full_like(p, grad)
    return p


# Schedules


def test_constant():
    assert [optim.Constant(0.1)(step) for step in (0, 7, 10**6)] == [0.1] * 3


def test_linear_decay_repeats_the_published_sequence():
    rates = [optim.LinearDecay(0.1, 4)(step) for step in range(6)]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025, 0, 0])


def test_exponential_decay_repeats_the_published_sequence():
    schedule = optim.ExponentialDecay(0.1, 4, speed=10, divisor=100)
    rates = [round(schedule(step), 5) for step in range(5)]
    assert rates == [0.1, 0.00912, 0.00166, 0.00105, 0.001]


@pytest.mark.parametrize(("speed", "divisor"), [(7, 96), (0.4, 100), (10, 100)])
def test_exponential_decay_is_the_published_recursion(speed, divisor):
    total, lr = 50, 0.08
    schedule = optim.ExponentialDecay(lr, total, speed, divisor)
    end = 2.718281828459045**-speed
    floor = (lr / divisor - lr * end) / (1 - end)
    for step in range(total + 1):
        assert schedule(step) == pytest.approx(lr, rel=1e-9)
        lr = (lr - floor) * end ** (1 / total) + floor
    assert schedule(total) == pytest.approx(0.08 / divisor)


@pytest.mark.parametrize("speed", [1e-3, 1e-9, 1e-20, 1e-300])
def test_exponential_decay_of_a_small_speed_is_linear(speed):
    schedule = optim.ExponentialDecay(0.1, 4, speed=speed, divisor=100)
    rates = [schedule(step) for step in range(5)]
    assert rates == pytest.approx([0.1, 0.07525, 0.0505, 0.02575, 0.001], rel=speed + 1e-14)


@pytest.mark.parametrize("divisor", [1e300, 1e-300, 96.0, 1.0])
@pytest.mark.parametrize("speed", [1e-20, 7.0, 1000.0])
def test_exponential_decay_starts_and_ends_as_it_says(speed, divisor):
    schedule = optim.ExponentialDecay(0.5, 10, speed=speed, divisor=divisor)
    assert schedule(0) == 0.5
    assert schedule(10) == 0.5 / divisor


@pytest.mark.parametrize("factor", [1e200, -1e200, float("inf"), float("nan")])
def test_milestones_refuse_a_factor_that_leaves_the_range(factor):
    with pytest.raises(ValueError, match="factor"):
        optim.Milestones(0.1, (1, 2), factor)
    assert optim.Milestones(0.1, (), factor)(5) == 0.1


def test_milestones_are_several():
    with pytest.raises(TypeError, match="milestones"):
        optim.Milestones(0.1, 5)


def test_exponential_decay_defaults_are_those_of_the_nets():
    assert optim.ExponentialDecay(96.0, 10)(10) == pytest.approx(1.0)
    assert optim.ExponentialDecay(1.0, 10).speed == 7


def test_schedules_know_nothing_but_the_step():
    for schedule in (optim.LinearDecay(0.1, 9), optim.ExponentialDecay(0.1, 9)):
        assert [schedule(s) for s in (3, 8, 3)] == [schedule(3), schedule(8), schedule(3)]
        assert schedule == dataclasses.replace(schedule)
        with pytest.raises(dataclasses.FrozenInstanceError):
            schedule.lr = 1.0


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (0, []),
        (10, []),
        (19, []),
        (20, [10, 15]),
        (49, [24, 36]),
        (50, [10, 17, 25, 30, 35, 40, 45]),
        (90, [18, 31, 45, 54, 62, 72, 81]),  # 90 * 0.7 is a little less than 63
        (100, [20, 35, 50, 60, 70, 80, 90]),
        (200, [40, 70, 100, 120, 140, 160, 180]),
    ],
)
def test_halving_epochs(epochs, expected):
    assert optim.halving_epochs(epochs) == expected


@pytest.mark.parametrize(("epochs", "halvings"), [(10, 0), (20, 2), (50, 7)])
def test_the_classifiers_rate_is_halved_after_those_epochs(epochs, halvings):
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters(), lr=1e-3)
    scheduler = optim.halving_schedule(optimizer, epochs)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    for epoch, rate in enumerate(rates):
        passed = sum(epoch >= e for e in optim.halving_epochs(epochs))
        assert rate == pytest.approx(1e-3 / 2**passed)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 / 2**halvings)


# The norm-dependent rate


def test_rates_by_hand():
    weight = torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0]], dtype=torch.float64)
    rates = optim.norm_dependent_rate(weight, 0.1)
    assert rates.tolist() == pytest.approx([0.2, 1e-6, 0.1], rel=1e-4)
    assert optim.norm_dependent_rate(weight, -0.1).tolist() == (-rates).tolist()
    # at norm 1 the exponents 0.3 and 0.1 leave 1e-3 and 0.1 of the rate
    weight = torch.tensor([[1.0, 0.0]])
    assert optim.norm_dependent_rate(weight, 1.0, 0.3).item() == pytest.approx(1e-3)
    assert optim.norm_dependent_rate(weight, 1.0, 0.1).item() == pytest.approx(0.1)
    assert optim.norm_dependent_rate(weight, 0.5, 0.0).item() == 0.5


def test_the_step_by_hand():
    weight = torch.tensor([[3.0, 4.0], [2.0, 0.0]])
    delta_w = torch.tensor([[1.0, -1.0], [0.5, 0.0]])
    assert optim.hebbian_step_(weight, delta_w, 0.1) is weight
    assert weight.flatten().tolist() == pytest.approx([3.2, 3.8, 2.05, 0.0])
    assert optim.hebbian_step_ is functional.hebbian_step_


def test_the_hook_scales_each_neurons_step():
    p = parameter([3.0, 4.0], [2.0, 0.0], [0.0, 1.0])
    optimizer = torch.optim.SGD([p], lr=0.1, maximize=True)
    optim.norm_dependent(optimizer)
    optimizer.step()
    expected = [3.2, 4.2, 2.1, 0.1, 1e-6, 1 + 1e-6]
    assert p.flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_the_hook_takes_the_exponent_and_the_norm_it_is_given():
    p = parameter([3.0, 4.0], [2.0, 0.0])
    optimizer = torch.optim.SGD([p], lr=0.1, maximize=True)
    optim.norm_dependent(optimizer, lr_power=1.0, lebesgue_p=1.0)
    optimizer.step()
    assert p.flatten().tolist() == pytest.approx([3.6, 4.6, 2.1, 0.1])  # norms 7 and 2


def test_a_bias_takes_the_factors_of_the_weight_before_it():
    weight, bias = parameter([3.0, 4.0], [2.0, 0.0]), nn.Parameter(torch.zeros(2))
    other, other_bias = parameter([10.0]), nn.Parameter(torch.zeros(1))
    bias.grad, other_bias.grad = torch.ones(2), torch.ones(1)
    groups = [{"params": [weight, bias]}, {"params": [other, other_bias], "lr": 1.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, maximize=True)
    optim.norm_dependent(optimizer)
    optimizer.step()
    assert bias.tolist() == pytest.approx([0.2, 0.1])
    assert other_bias.item() == pytest.approx(3.0)


def test_the_rates_follow_the_norms_from_step_to_step():
    p = parameter([3.0])
    optimizer = torch.optim.SGD([p], lr=1.0, maximize=True)
    optim.norm_dependent(optimizer)
    for expected in (3 + 2**0.5, 3 + 2**0.5 + (2 + 2**0.5) ** 0.5):
        p.grad = torch.ones_like(p)
        optimizer.step()
        assert p.item() == pytest.approx(expected)


def test_parameters_without_a_gradient_are_passed_over():
    frozen, p = nn.Parameter(torch.ones(2, 2)), parameter([3.0, 4.0])
    optimizer = torch.optim.SGD([{"params": [frozen]}, {"params": [p]}], lr=0.1, maximize=True)
    optim.norm_dependent(optimizer)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(2, 2))
    assert p.flatten().tolist() == pytest.approx([3.2, 4.2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_hook_keeps_the_dtype(dtype):
    p = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=dtype))
    p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD([p], lr=0.5, maximize=True)
    optim.norm_dependent(optimizer)
    optimizer.step()
    assert p.dtype == p.grad.dtype == dtype
    assert p.flatten().tolist() == [4.0, 5.0]


def test_the_hook_ends_when_it_is_removed():
    p = parameter([3.0, 4.0])
    optimizer = torch.optim.SGD([p], lr=0.1, maximize=True)
    handle = optim.norm_dependent(optimizer)
    handle.remove()
    optimizer.step()
    assert p.flatten().tolist() == pytest.approx([3.1, 4.1])


def test_one_optimizer_for_several_layers():
    conv, linear = SoftHebbConv2d(1, 4, 3, radius=2.0), SoftHebbLinear(16, 3, radius=5.0)
    groups = [{"params": conv.parameters()}, {"params": linear.parameters(), "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, lr=0.1, maximize=True)
    optim.norm_dependent(optimizer)
    linear(conv(torch.rand(2, 1, 4, 4)).flatten(1))
    expected = [
        functional.hebbian_step_(layer.weight.detach().clone(), layer.weight.grad, lr)
        for layer, lr in ((conv, 0.1), (linear, 0.01))
    ]
    optimizer.step()
    torch.testing.assert_close([conv.weight.data, linear.weight.data], expected)


# Errors


@pytest.mark.parametrize("schedule", [optim.LinearDecay, optim.ExponentialDecay])
@pytest.mark.parametrize("total", [0, -1, float("nan")])
def test_decays_need_a_step(schedule, total):
    with pytest.raises(ValueError, match=f"total_steps must be at least 1; got {total}"):
        schedule(0.1, total)


@pytest.mark.parametrize("options", [{"speed": 0}, {"divisor": -1.0}, {"speed": float("nan")}])
def test_exponential_decay_needs_positive_shapes(options):
    with pytest.raises(ValueError, match=r"^(speed|divisor) must be positive and finite"):
        optim.ExponentialDecay(0.1, 10, **options)


def test_a_bias_needs_its_weight_before_it():
    bias, weight = nn.Parameter(torch.zeros(2)), parameter([1.0], [2.0])
    optimizer = torch.optim.SGD([bias, weight], lr=0.1, maximize=True)
    with pytest.raises(
        ValueError, match=r"weight before its bias; got a parameter of shape \(2,\)"
    ):
        optim.norm_dependent(optimizer)
