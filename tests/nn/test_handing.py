"""Updates handed to an optimizer, in every order of calls."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from tests.nn.layers import batch, make, moved

LOST = "cleared before an optimizer used them"
REPLACES = "replaces a gradient"


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def sgd(*layers: nn.Module, lr: float = 0.1, **options) -> torch.optim.Optimizer:
    parameters = {p for layer in layers for p in layer.parameters()}
    return torch.optim.SGD(parameters, lr=lr, maximize=True, **options)


def means(u: torch.Tensor) -> torch.Tensor:
    return u.reshape(*u.shape[:2], -1).mean(dim=2)


class ByData(torch.optim.Optimizer):
    """Moves parameters past autograd, as many hand-written optimizers do."""

    def __init__(self, params) -> None:
        super().__init__(params, {})

    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data.add_(p.grad.data, alpha=0.1)


# zero_grad between forward and step


@pytest.mark.parametrize("set_to_none", [True, False])
def test_updates_that_zero_grad_clears_are_noticed(kind, set_to_none):
    layer = make(kind)
    optimizer, start = sgd(layer), layer.weight.detach().clone()

    def train() -> None:
        for step in range(5):
            layer(batch(kind, step))
            optimizer.zero_grad(set_to_none=set_to_none)
            optimizer.step()

    with pytest.warns(UserWarning, match=LOST) as caught:
        train()
    assert len(caught) == 1
    assert not moved(layer, start)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("where", ["before", "after", "never"])
def test_steps_in_order_are_quiet(kind, set_to_none, where, quiet):
    layer = make(kind, bias=True)
    optimizer = sgd(layer, momentum=0.9)
    for step in range(5):
        start = layer.weight.detach().clone()
        if where == "before":
            optimizer.zero_grad(set_to_none=set_to_none)
        layer(batch(kind, step))
        nn.utils.clip_grad_norm_(layer.parameters(), 0.5)
        optimizer.step()
        if where == "after":
            optimizer.zero_grad(set_to_none=set_to_none)
        assert moved(layer, start)


def test_a_rate_of_zero_is_quiet(kind, quiet):
    layer = make(kind)
    optimizer = sgd(layer, lr=0.0)
    for step in range(5):
        optimizer.zero_grad()
        layer(batch(kind, step))
        optimizer.step()


@pytest.mark.parametrize("fused", [True, False])
def test_fused_optimizers_are_quiet(kind, fused, quiet):
    layer = make(kind)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01, maximize=True, fused=fused)
    for step in range(5):
        optimizer.zero_grad()
        layer(batch(kind, step))
        optimizer.step()


def test_an_optimizer_that_moves_data_is_quiet(kind, quiet):
    layer = make(kind)
    optimizer = ByData(layer.parameters())
    for step in range(6):
        start = layer.weight.detach().clone()
        optimizer.zero_grad()
        layer(batch(kind, step))
        optimizer.step()
        assert moved(layer, start)


def test_several_forwards_before_a_step_are_quiet(kind, quiet):
    layer = make(kind)
    optimizer = sgd(layer)
    for step in range(4):
        optimizer.zero_grad()
        for part in range(3):
            layer(batch(kind, 3 * step + part))
        last = layer.weight.grad.clone()
        layer(batch(kind, 3 * step + 2))
        assert torch.equal(layer.weight.grad, last)  # it replaces what is there
        optimizer.step()


def test_a_copy_is_quiet(kind, quiet):
    layer = make(kind)
    layer(batch(kind))
    for _ in range(3):
        layer = copy.deepcopy(layer)
        layer(batch(kind))
    layer.zero_grad()
    layer(batch(kind))


# An update in another's place


def test_layers_that_share_a_weight_are_noticed(kind):
    first, second = make(kind), make(kind, seed=1)
    second.weight = first.weight
    optimizer = sgd(first)

    def train() -> None:
        for step in range(4):
            optimizer.zero_grad()
            first(batch(kind, step))
            second(batch(kind, step))
            optimizer.step()

    with pytest.warns(UserWarning, match=REPLACES) as caught:
        train()
    assert len(caught) == 1


def test_layers_that_share_a_weight_in_place_both_step(kind):
    first, second = (make(kind, update="in_place", lr=0.1) for _ in range(2))
    twin = copy.deepcopy(first)
    second.weight = first.weight
    first(batch(kind))
    second(batch(kind, 1))
    for step in range(2):
        twin(batch(kind, step))
    assert torch.equal(first.weight, twin.weight)


def test_a_gradient_of_a_backward_pass_is_not_replaced_unnoticed(kind):
    layer = make(kind)
    layer.eval()(batch(kind)).sum().backward()
    with pytest.warns(UserWarning, match=REPLACES):
        layer.train()(batch(kind))


@pytest.mark.parametrize("set_to_none", [True, False])
def test_backward_passes_and_updates_may_alternate(kind, set_to_none, quiet):
    layer = make(kind)
    optimizer = sgd(layer)
    for step in range(4):
        for training in (True, False):
            optimizer.zero_grad(set_to_none=set_to_none)
            u = layer.train(training)(batch(kind, step))
            if not training:
                u.sum().backward()
            optimizer.step()


# Gradient scalers


@pytest.mark.parametrize("unscales", [True, False])
def test_a_scaler_does_not_step_updates_that_it_did_not_scale(kind, unscales):
    layer, head = make(kind), nn.Linear(8, 2)
    optimizer, start = sgd(layer, head), layer.weight.detach().clone()
    scaler = GradScaler("cpu", init_scale=1024.0)
    u = means(layer(batch(kind).requires_grad_()))
    scaler.scale(head(u).sum()).backward()
    if unscales:
        scaler.unscale_(optimizer)
    before = head.weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"GradScaler.*an optimizer of their own"):
        scaler.step(optimizer)
    assert not moved(layer, start)
    assert torch.equal(head.weight, before)


def test_a_scaler_does_not_step_a_layer_that_stepped_by_itself_before(kind):
    layer = make(kind, update="in_place", lr=0.1)
    layer(batch(kind))
    layer.update = "grad"
    layer(batch(kind))
    scaler = GradScaler("cpu")
    scaler.scale(torch.ones(()))
    with pytest.raises(RuntimeError, match="GradScaler"):
        scaler.step(sgd(layer))


def test_a_fused_optimizer_does_not_either(kind):
    layer = make(kind)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, fused=True)
    scaler = GradScaler("cpu")
    layer(batch(kind))
    scaler.scale(torch.ones(()))
    with pytest.raises(RuntimeError, match="GradScaler"):
        scaler.step(optimizer)


def test_an_optimizer_beside_the_scaler_steps_whole_updates(kind, quiet):
    layer, head = make(kind), nn.Linear(8, 2)
    hebbian, other = sgd(layer), torch.optim.SGD(head.parameters(), lr=0.1)
    scaler, start = GradScaler("cpu", init_scale=1024.0), layer.weight.detach().clone()
    u = means(layer(batch(kind)))
    update = layer.weight.grad.clone()
    scaler.scale(head(u).sum()).backward()
    scaler.step(other)
    hebbian.step()
    scaler.update()
    torch.testing.assert_close(layer.weight.detach(), start + 0.1 * update)


def test_a_scaler_steps_what_backward_passes_gave(kind, quiet):
    layer = make(kind)
    layer(batch(kind))
    optimizer = sgd(layer)
    optimizer.step()
    optimizer.zero_grad()
    start = layer.weight.detach().clone()
    scaler = GradScaler("cpu")
    scaler.scale(layer.eval()(batch(kind)).sum()).backward()
    scaler.step(optimizer)
    assert moved(layer, start)


def test_a_gradient_where_an_update_was_in_memory_is_none():
    layer = make("linear")
    layer(batch("linear"))
    update = layer.weight.grad
    other = update.clone()
    assert layer.handed.gave(update)
    assert not layer.handed.gave(other)
    assert not layer.handed._replace(gradient=id(other)).gave(other)


def test_a_scaler_that_is_off_steps(kind, quiet):
    layer = make(kind)
    start = layer.weight.detach().clone()
    layer(batch(kind))
    GradScaler("cpu", enabled=False).step(sgd(layer))
    assert moved(layer, start)


# Hooks of a parameter


def test_hooks_of_the_weight_hear_of_updates(kind):
    layer, heard = make(kind, bias=True), []
    layer.weight.register_hook(lambda gradient: heard.append("gradient") or 2 * gradient)
    layer.weight.register_post_accumulate_grad_hook(lambda p: heard.append(p.grad.clone()))
    handle = layer.bias.register_post_accumulate_grad_hook(lambda p: heard.append("bias"))
    twin = make(kind, bias=True)
    layer(batch(kind))
    twin(batch(kind))
    assert heard[0] == "gradient"
    assert torch.equal(heard[1], 2 * twin.weight.grad)
    assert heard[2:] == ["bias"]
    handle.remove()
    layer(batch(kind))
    assert len(heard) == 5
    assert heard[3] == "gradient"


def test_an_optimizer_in_a_hook_steps(kind):
    layer = make(kind)
    start, optimizer = layer.weight.detach().clone(), sgd(layer)

    def step(parameter: nn.Parameter) -> None:
        optimizer.step()
        optimizer.zero_grad()

    layer.weight.register_post_accumulate_grad_hook(step)
    layer(batch(kind))
    assert moved(layer, start)
    assert layer.weight.grad is None
