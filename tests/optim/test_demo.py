"""The optimizer and schedulers of the published example, under their names."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from softhebb_fast.optim import (
    CustomStepLR,
    TensorLRSGD,
    WeightNormDependentLR,
    halving_epochs,
    norm_dependent,
)
from tests.tolerances import TOLERANCES, assert_close


def filters(*shape: int) -> nn.Parameter:
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(shape, dtype=torch.float64))


def rates(weight: Tensor, lr: float, power: float = 0.5) -> Tensor:
    norm = weight.detach().flatten(1).norm(dim=1)
    return lr * ((norm - 1).abs() + 1e-10) ** power


# The optimizer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.4},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.05},
        {"momentum": 0.9, "weight_decay": 0.05, "maximize": True},
    ],
    ids=str,
)
def test_with_one_rate_it_is_torchs_sgd(options):
    ours, torchs = filters(4, 3), filters(4, 3)
    optimizers = TensorLRSGD([ours], lr=0.1, **options), torch.optim.SGD([torchs], 0.1, **options)
    for _ in range(5):
        for p, optimizer in zip((ours, torchs), optimizers, strict=True):
            p.grad = p.detach().sin()
            optimizer.step()
    assert_close(ours, torchs, TOLERANCES["float64"])


@pytest.mark.parametrize("shape", [(4,), (4, 1, 1, 1)])
def test_a_rate_for_each_neuron(shape):
    weight, bias = filters(4, 2, 3, 3), nn.Parameter(torch.zeros(4, dtype=torch.float64))
    start = weight.detach().clone()
    lr = -torch.tensor([0.1, 0.2, 0.3, 0.0], dtype=torch.float64)
    optimizer = TensorLRSGD([{"params": [weight, bias], "lr": lr.view(shape)}], lr=0)
    weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
    optimizer.step()
    assert_close(weight - start, -lr.view(4, 1, 1, 1).expand_as(start), TOLERANCES["float64"])
    assert torch.equal(bias, -lr)


def test_a_tensor_of_one_number_is_the_rate_of_all():
    p, b = filters(4, 2), nn.Parameter(torch.zeros(()).double())
    optimizer = TensorLRSGD([{"params": [p, b], "lr": torch.tensor([[-0.5]])}], lr=0)
    start = p.detach().clone()
    p.grad, b.grad = torch.ones_like(p), torch.ones_like(b)
    optimizer.step()
    assert_close(p, start + 0.5, TOLERANCES["float64"])
    assert b.item() == 0.5


def test_a_closure_is_run_with_gradients_and_its_loss_returned():
    p = filters(3, 2)
    optimizer = TensorLRSGD([p], lr=0.1)
    start = p.detach().clone()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum() / 2
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == pytest.approx((start**2).sum().item() / 2)
    assert_close(p, 0.9 * start, TOLERANCES["float64"])


@pytest.mark.parametrize("lr", [torch.ones(3), torch.ones(5, 1, 1, 1)], ids=["3", "5"])
def test_rates_that_do_not_fit_step_nothing(lr):
    first, second = filters(2, 3), filters(4, 3)
    optimizer = TensorLRSGD([{"params": [first]}, {"params": [second], "lr": lr}], lr=1.0)
    first.grad, second.grad = torch.ones_like(first), torch.ones_like(second)
    with pytest.raises(ValueError, match=r"lr of group 1 .* one for each neuron; got one of shape"):
        optimizer.step()
    assert torch.equal(first, filters(2, 3))


@pytest.mark.parametrize("option", ["foreach", "fused", "differentiable"])
def test_what_it_cannot_do_is_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be off, TensorLRSGD has none; got True"):
        TensorLRSGD([filters(2, 2)], lr=0.1, **{option: True})
    with pytest.raises(ValueError, match=f"{option} must be off"):
        TensorLRSGD([{"params": [filters(2, 2)], option: True}], lr=0.1)
    TensorLRSGD([filters(2, 2)], lr=0.1, **{option: False})


def test_norm_dependent_and_the_scheduler_take_the_same_steps():
    ours, published = filters(4, 3), filters(4, 3)
    options = {"lr": 0.0, "momentum": 0.9, "weight_decay": 0.01}
    one = torch.optim.SGD([{"params": [ours], "lr": -0.08}], **options)
    norm_dependent(one, lr_power=0.3)
    other = TensorLRSGD([{"params": [published], "lr": -0.08}], **options)
    scheduler = WeightNormDependentLR(other, power_lr=0.3)
    for _ in range(10):
        ours.grad, published.grad = ours.detach().cos(), published.detach().cos()
        one.step()
        other.step()
        scheduler.step()
    assert_close(ours, published, TOLERANCES["float64_steps"])


# The scheduler of the Hebbian layers


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (4, 7), (4, 3, 5)], ids=str)
def test_rates_are_set_at_the_start_and_follow_the_norms(shape):
    weight = filters(*shape)
    optimizer = TensorLRSGD([{"params": [weight], "lr": -0.08}], lr=0)
    scheduler = WeightNormDependentLR(optimizer, power_lr=0.5)
    for step in range(3):
        (lr,) = scheduler.get_last_lr()
        assert lr.shape == (4, *[1] * (len(shape) - 1))
        assert_close(lr.flatten(), rates(weight, -0.08), TOLERANCES["float64"])
        assert torch.equal(optimizer.param_groups[0]["lr"], lr)
        assert scheduler.last_epoch == step
        weight.grad = torch.randn_like(weight)
        optimizer.step()
        scheduler.step()
    assert isinstance(scheduler, LRScheduler)


@pytest.mark.parametrize("order", ["optimizer first", "scheduler first"])
def test_the_base_rate_survives_every_order_of_resuming(order):
    def made() -> tuple[nn.Parameter, TensorLRSGD]:
        weight = filters(4, 2)
        return weight, TensorLRSGD([{"params": [weight], "lr": -0.08}], lr=0, momentum=0.9)

    def step(weight: Tensor, optimizer: TensorLRSGD, scheduler: WeightNormDependentLR) -> None:
        weight.grad = weight.detach().cos()
        optimizer.step()
        scheduler.step()

    weight, optimizer = made()
    scheduler = WeightNormDependentLR(optimizer, 0.5)
    for _ in range(3):
        step(weight, optimizer, scheduler)
    file = io.BytesIO()
    torch.save([weight.detach(), optimizer.state_dict(), scheduler.state_dict()], file)
    step(weight, optimizer, scheduler)

    again, optimizer = made()
    file.seek(0)
    saved, of_optimizer, of_scheduler = torch.load(file)
    again.data.copy_(saved)
    if order == "optimizer first":
        optimizer.load_state_dict(of_optimizer)
        scheduler = WeightNormDependentLR(optimizer, 0.5)
    else:
        scheduler = WeightNormDependentLR(optimizer, 0.5)
        optimizer.load_state_dict(of_optimizer)
    scheduler.load_state_dict(of_scheduler)
    step(again, optimizer, scheduler)
    assert torch.equal(again, weight)
    assert scheduler.last_epoch == 4


def test_a_bias_shares_the_rates_of_its_weight():
    weight, bias = filters(4, 2), nn.Parameter(torch.zeros(4).double())
    optimizer = TensorLRSGD([{"params": [weight, bias], "lr": -0.1}], lr=0)
    WeightNormDependentLR(optimizer, 0.5)
    bias.grad = torch.ones_like(bias)
    optimizer.step()
    assert_close(bias, -rates(weight, -0.1), TOLERANCES["float64"])


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(4,)], r"must hold one weight \[K, ...\]; got parameters of shapes \[\(4,\)\]"),
        ([(4, 2), (3, 2)], r"got parameters of shapes \[\(4, 2\), \(3, 2\)\]"),
    ],
)
def test_groups_of_no_layer_or_several_are_refused(shapes, says):
    groups = [{"params": [filters(2, 2)]}, {"params": [filters(*shape) for shape in shapes]}]
    optimizer = TensorLRSGD(groups, lr=-0.0, maximize=True)
    with pytest.raises(ValueError, match=f"group 1 of optimizer .*{says}"):
        WeightNormDependentLR(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0, 0]


def test_optimizers_that_take_one_rate_are_refused():
    optimizer = torch.optim.SGD([{"params": [filters(2, 2)], "lr": -0.1}], lr=0)
    with pytest.raises(ValueError, match=r"as TensorLRSGD does; got torch\.optim\.SGD, for which"):
        WeightNormDependentLR(optimizer, 0.5)


def test_a_group_that_comes_after_the_scheduler():
    optimizer = TensorLRSGD([{"params": [filters(2, 2)], "lr": -0.1}], lr=0)
    scheduler = WeightNormDependentLR(optimizer, 0.5)
    optimizer.add_param_group({"params": [filters(3, 2)], "lr": -0.2})
    optimizer.step()
    with pytest.raises(ValueError, match=r"must have the 1 groups .* got 2: make the scheduler"):
        scheduler.step()
    WeightNormDependentLR(optimizer, 0.5)
    for group, lr in zip(optimizer.param_groups, (-0.1, -0.2), strict=True):
        assert_close(group["lr"].flatten(), rates(group["params"][0], lr), TOLERANCES["float64"])


def test_it_warns_of_a_group_that_descends():
    groups = [{"params": [filters(2, 2)], "lr": -0.1}, {"params": [filters(3, 2)], "lr": 0.1}]
    with pytest.warns(UserWarning, match="group 1 of optimizer descends.*use a negative lr"):
        WeightNormDependentLR(TensorLRSGD(groups, lr=0), 0.5)
    groups = [{"params": [filters(2, 2)], "lr": -0.1}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WeightNormDependentLR(TensorLRSGD(groups, lr=0), 0.5)


def test_the_verbose_of_old_programs_is_taken():
    groups = [{"params": [filters(2, 2)], "lr": -0.1}]
    WeightNormDependentLR(TensorLRSGD(groups, lr=0), 0.5, -1, False)
    with pytest.warns(UserWarning, match="verbose is ignored"):
        WeightNormDependentLR(TensorLRSGD(groups, lr=0), 0.5, verbose=True)


@pytest.mark.parametrize(("power", "error"), [("a", TypeError), (math.inf, ValueError)])
def test_an_exponent_must_be_a_number(power, error):
    optimizer = TensorLRSGD([{"params": [filters(2, 2)], "lr": -0.1}], lr=0)
    with pytest.raises(error, match="power_lr must be"):
        WeightNormDependentLR(optimizer, power)
    assert optimizer.param_groups[0]["lr"] == -0.1


# The scheduler of the classifier


@pytest.mark.parametrize("epochs", [50, 100, 200, np.int64(50)])
def test_the_classifiers_rate_is_halved_seven_times(epochs):
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters(), lr=1e-3)
    scheduler = CustomStepLR(optimizer, nb_epochs=epochs)
    lr = 1e-3
    for epoch in range(int(epochs)):
        assert optimizer.param_groups[0]["lr"] == lr
        optimizer.step()
        scheduler.step()
        if epoch + 1 in halving_epochs(int(epochs)):
            lr *= 0.5
    assert optimizer.param_groups[0]["lr"] == 1e-3 / 128
    assert scheduler.get_last_lr() == [1e-3 / 128]


@pytest.mark.parametrize(("epochs", "halved"), [(10, [2, 3, 5, 6, 7, 8, 9]), (4, [0, 1, 2, 3])])
def test_short_runs_are_halved_too_once_an_epoch(epochs, halved):
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    scheduler = CustomStepLR(optimizer, epochs)
    for epoch in range(epochs):
        passed = sum(milestone <= epoch for milestone in halved)
        assert optimizer.param_groups[0]["lr"] == 0.5**passed
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("epochs", [0, -1, "many", math.nan])
def test_epochs_must_be_a_number(epochs):
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    with pytest.raises(ValueError, match="nb_epochs must be a positive, finite number"):
        CustomStepLR(optimizer, epochs)
