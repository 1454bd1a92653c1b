"""Training loops that hand the optimizer a closure, as Lightning's do."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast import SoftHebbConv2d, Triangle, optim
from tests.tolerances import TOLERANCES, assert_close


class Module(nn.Module):
    """A Hebbian layer and a classifier, with the methods that such loops call."""

    def __init__(self, update: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        lr = 0.05 if update == "in_place" else None
        self.conv = SoftHebbConv2d(2, 6, 3, padding=1, radius=4.0, update=update, lr=lr)
        self.head = nn.Sequential(Triangle(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(24, 3))
        self.double()

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, labels = batch
        return F.cross_entropy(self.head(self.conv(x)), labels)

    def hebbian(self, **options) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(self.conv.parameters(), lr=0.05, maximize=True, **options)
        optim.norm_dependent(optimizer)
        return optimizer

    def supervised(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.head.parameters(), lr=0.01)


def batches(steps: int = 5) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.rand(6, 2, 8, 8, generator=generator, dtype=torch.float64),
            torch.randint(3, (6,), generator=generator),
        )
        for _ in range(steps)
    ]


def automatic(module: Module, *optimizers: torch.optim.Optimizer) -> list[float]:
    """The loss, then the gradients anew: all inside of ``step``. One optimizer after the other."""
    losses = []
    for batch in batches():
        for optimizer in optimizers:

            def closure(optimizer=optimizer, batch=batch) -> Tensor:
                loss = module.training_step(batch)
                optimizer.zero_grad()
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
    return losses


def manual(module: Module, *optimizers: torch.optim.Optimizer) -> list[float]:
    """The user's own order: gradients are cleared before the forward pass that makes them."""
    losses = []
    for batch in batches():

        def closure(batch=batch) -> Tensor:
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss = module.training_step(batch)
            loss.backward()
            return loss

        first, *others = optimizers
        losses.append(first.step(closure).item())
        for optimizer in others:
            optimizer.step()
    return losses


def without_a_closure(module: Module, *optimizers: torch.optim.Optimizer) -> list[float]:
    losses = []
    for batch in batches():
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = module.training_step(batch)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return losses


def trained(loop: Callable, update: str, *kinds: str) -> tuple[Module, list[float]]:
    module = Module(update)
    return module, loop(module, *(getattr(module, kind)() for kind in kinds))


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert_close(a, b[1], TOLERANCES["float64_steps"])
        assert not torch.equal(a, Module("grad").get_parameter(name)), name


def test_layers_that_step_in_place_fit_the_automatic_loop():
    automatically, losses = trained(automatic, "in_place", "supervised")
    plainly, expected = trained(without_a_closure, "in_place", "supervised")
    assert losses == expected
    assert_same(automatically, plainly)


def test_the_optimizers_closure_makes_the_steps_that_the_layer_makes_in_place():
    by_optimizer, losses = trained(manual, "grad", "hebbian", "supervised")
    in_place, expected = trained(without_a_closure, "in_place", "supervised")
    assert losses == pytest.approx(expected, rel=TOLERANCES["float64_steps"])
    assert_same(by_optimizer, in_place)


def test_a_closure_and_none_are_the_same_whatever_the_optimizer_remembers():
    ends = []
    for loop in (manual, without_a_closure):
        module = Module("grad")
        loop(module, module.hebbian(momentum=0.9, weight_decay=1e-3), module.supervised())
        ends.append(module)
    assert_same(*ends)


def test_a_filter_at_norm_one_stays():
    module = Module("grad")
    with torch.no_grad():
        module.conv.weight[2] /= module.conv.weight[2].norm()
    before = copy.deepcopy(module.conv.weight)
    optimizer = torch.optim.Adam(module.conv.parameters(), lr=0.08, maximize=True)
    optim.norm_dependent(optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        return module.training_step(batches(1)[0])

    optimizer.step(closure)
    moved = (module.conv.weight - before).flatten(1).abs().amax(dim=1)
    assert moved[2] < 1e-6
    assert moved.max() > 0.1


def test_noise_reaches_the_gradients_of_a_closure():
    ends = []
    for size in (1e-3, 1e-2):
        module = Module("in_place")
        optimizer = torch.optim.SGD(module.head.parameters(), lr=1.0)
        optim.gradient_noise(optimizer, size)
        automatic(module, optimizer)
        ends.append(module.head[-1].bias.detach())
    module = Module("in_place")
    automatic(module, torch.optim.SGD(module.head.parameters(), lr=1.0))
    small, large = ((end - module.head[-1].bias).abs().max() for end in ends)
    assert 1e-4 < small < large
