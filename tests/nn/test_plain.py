"""Blocks and normalisation call whatever is not their own code, and what hooks listen to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as all_modules

from softhebb_fast import RePU, SoftHebbBlock, SoftHebbConv2d, Triangle
from softhebb_fast.nn import Block
from softhebb_fast.nn.normalise import bound_after, normalised
from softhebb_fast.nn.plain import KINDS, plain
from tests.tolerances import TOLERANCES, assert_close

HALF = 0.5


class HalvedConv2d(SoftHebbConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return HALF * super().forward(x)


class HalvedProduct(SoftHebbConv2d):
    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return HALF * super()._product(x, weight, bias)


class HalvedTriangle(Triangle):
    def forward(self, u: Tensor) -> Tensor:
        return HALF * super().forward(u)


class HalvedReLU(nn.ReLU):
    def __call__(self, x: Tensor) -> Tensor:
        return HALF * super().__call__(x)


class HalvedPool(nn.MaxPool2d):
    def forward(self, x: Tensor) -> Tensor:
        return HALF * super().forward(x)


class HalvedNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return HALF * super().forward(x)


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def block(training: bool, kind: type = SoftHebbConv2d, **parts) -> Block:
    layer = kind(2, 6, 3, generator=torch.Generator().manual_seed(0), update="in_place", lr=0.01)
    parts = {"activation": Triangle(), "pool": nn.MaxPool2d(2), **parts}
    return Block(layer, **parts).train(training)


def halve_output(part: nn.Module) -> None:
    part.register_forward_hook(lambda module, given, out: HALF * out)


def halve_by_instance(part: nn.Module) -> None:
    forward = part.forward
    part.forward = lambda x: HALF * forward(x)


@pytest.fixture(params=["evaluation", "training"])
def training(request) -> bool:
    return request.param == "training"


@pytest.mark.parametrize("halve", [halve_output, halve_by_instance])
@pytest.mark.parametrize("part", ["layer", "activation", "pool"])
@torch.no_grad()
def test_hooks_and_forwards_of_an_instance_are_called(part, halve, training):
    x = images(3, 2, 8, 8)
    expected = HALF * block(training)(x)
    changed = block(training)
    halve(getattr(changed, part))
    assert_close(changed(x), expected, TOLERANCES["float32_u"])
    assert expected.abs().max() > 1


@pytest.mark.parametrize(
    "parts",
    [
        {"kind": HalvedConv2d},
        {"activation": HalvedTriangle()},
        {"pool": HalvedPool(2)},
        {"activation": HalvedReLU(), "ordinary": nn.ReLU()},
        {"activation": nn.ReLU(), "pool": HalvedPool(2), "ordinary": nn.ReLU()},
    ],
    ids=str,
)
@torch.no_grad()
def test_forwards_of_derived_classes_are_called(parts, training):
    x, parts = images(3, 2, 8, 8), dict(parts)
    ordinary = parts.pop("ordinary", Triangle())
    expected = HALF * block(training, activation=ordinary)(x)
    assert_close(block(training, **parts)(x), expected, TOLERANCES["float32_u"])


@torch.no_grad()
def test_a_derived_product_is_computed_in_evaluation():
    x = images(3, 2, 8, 8)
    expected = HALF * block(False)(x)
    assert_close(block(False, HalvedProduct)(x), expected, TOLERANCES["float32_u"])


@torch.no_grad()
def test_a_class_that_is_patched_later_is_noticed(monkeypatch, training):
    x, forward = images(3, 2, 8, 8), Triangle.forward
    expected = HALF * block(training)(x)
    monkeypatch.setattr(Triangle, "forward", lambda self, u: HALF * forward(self, u))
    assert_close(block(training)(x), expected, TOLERANCES["float32_u"])


REGISTER = {
    "forward": all_modules.register_module_forward_hook,
    "before": all_modules.register_module_forward_pre_hook,
}


@pytest.mark.parametrize("when", REGISTER)
@torch.no_grad()
def test_hooks_of_all_modules_hear_of_every_part(when, training):
    heard = []
    handle = REGISTER[when](lambda module, *_: heard.append(type(module).__name__))
    try:
        SoftHebbBlock(2, 6, 3, pool=nn.MaxPool2d(2)).train(training)(images(3, 2, 8, 8))
    finally:
        handle.remove()
    assert heard.count("SoftHebbBlock") == 1
    for part in ("BatchNorm2d", "SoftHebbConv2d", "Triangle", "MaxPool2d"):
        assert heard.count(part) == 1


@torch.no_grad()
def test_the_order_is_the_true_one_where_somebody_listens():
    shapes, listened = [], block(False, activation=nn.ReLU())
    listened.activation.register_forward_hook(lambda m, given, out: shapes.append(out.shape[2]))
    listened(images(3, 2, 8, 8))
    assert shapes == [6]


@torch.no_grad()
def test_step_is_what_a_forward_learns():
    def stepped(change=lambda block: None) -> tuple[Tensor, Tensor]:
        found = []
        for step in (False, True):
            made = SoftHebbBlock(
                2, 6, 3, generator=torch.Generator().manual_seed(0), update="in_place", lr=0.01
            )
            change(made)
            made.step_(x) if step else made(x)
            found.append(made.layer.weight)
        return tuple(found)

    def halves_input(block: Block) -> None:
        block.layer.register_forward_pre_hook(lambda module, given: (HALF * given[0],))

    def halves_norm(block: Block) -> None:
        block.norm = HalvedNorm(2, affine=False)

    def halves_of_block(block: Block) -> None:
        block.register_forward_pre_hook(lambda module, given: (given[0].flip(3),))

    x = images(3, 2, 8, 8)
    plainly, _ = stepped()
    for change in (halves_input, halves_norm, halves_of_block):
        forward, step = stepped(change)
        assert torch.equal(step, forward)
        assert not torch.equal(step, plainly)


def test_a_block_with_a_forward_of_its_own_steps_by_it():
    class Doubled(SoftHebbBlock):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x)
            return super().forward(x)

    calls = []
    Doubled(2, 6, 3).step_(images(3, 2, 8, 8))
    assert len(calls) == 1


def test_what_is_known_of_a_norm_holds_for_the_class_alone():
    x = images(3, 2, 8, 8)
    assert bound_after(nn.BatchNorm2d(2, affine=False), x) is not None
    hooked = nn.BatchNorm2d(2, affine=False)
    hooked.register_forward_hook(lambda module, given, out: 1e6 * out)
    own = nn.BatchNorm2d(2, affine=False)
    own.forward = lambda x: 1e6 * x
    for norm in (hooked, own, HalvedNorm(2, affine=False)):
        assert bound_after(norm, x) is None
    assert torch.equal(normalised(own, x), 1e6 * x)


def test_a_power_or_a_bias_that_learns_gets_its_gradient():
    for activation in (Triangle, RePU):
        learning = block(True, activation=activation(0.7))
        del learning.activation.power
        learning.activation.power = nn.Parameter(torch.tensor(0.7))
        out = learning(images(3, 2, 8, 8))
        out.sum().backward()
        assert learning.activation.power.grad.abs() > 0
    layer = SoftHebbConv2d(2, 6, 3, bias=True)
    layer.weight.requires_grad_(False)
    Block(layer, activation=Triangle()).eval()(images(3, 2, 8, 8)).sum().backward()
    assert layer.bias.grad is not None


def test_pools_that_return_pairs():
    with pytest.raises(ValueError, match=r"pool must return a tensor; got return_indices=True"):
        SoftHebbBlock(2, 6, 3, pool=nn.MaxPool2d(2, return_indices=True))
    with pytest.raises(ValueError, match="pool must return a tensor"):
        Block(nn.Conv2d(2, 4, 3), pool=nn.AdaptiveMaxPool2d(2, return_indices=True))
    changed = block(False)
    changed.pool.return_indices = True
    with pytest.raises(TypeError, match="the parts of a block must return a tensor; got tuple"):
        changed(images(3, 2, 8, 8))


@pytest.mark.parametrize("kernel", [np.int64(2), [2, 2], np.array([2, 2])], ids=repr)
def test_sizes_of_pools_may_be_any_whole_numbers(kernel):
    x = torch.randn(2, 3, 6, 6)
    block = SoftHebbBlock(3, 4, 3, pool=nn.AvgPool2d(2)).eval()
    with torch.no_grad():
        expected = block(x)
        block.pool.kernel_size = block.pool.stride = kernel
        assert torch.equal(block(x), expected)


def test_the_kinds_are_plain_until_something_is_added():
    triangle, pool = Triangle(), nn.MaxPool2d(2)
    assert plain(triangle, None, pool)
    handle = pool.register_full_backward_pre_hook(lambda *_: None)
    assert not plain(triangle, pool)
    handle.remove()
    assert plain(triangle, pool)
    assert not plain(nn.Sequential())
    assert len(set(KINDS)) == len(KINDS)
