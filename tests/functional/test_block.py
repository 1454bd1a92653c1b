"""Steps and blocks in one pass: the functions on every backend, and the modules that use them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from softhebb_fast import RePU, SoftHebbBlock, SoftHebbConv2d, Triangle, functional
from softhebb_fast.backends import why_not
from softhebb_fast.functional import Epilogue
from softhebb_fast.nn import Block
from tests.tolerances import TOLERANCES, assert_close

TOL = TOLERANCES["float32_delta_w"]
POOLS = {
    "max": (Epilogue(True, 0.7, "max", (4, 4), (2, 2), (1, 1)), nn.MaxPool2d(4, 2, 1)),
    "avg": (Epilogue(True, 1.4, "avg", (4, 4), (2, 2), (1, 1)), nn.AvgPool2d(4, 2, 1)),
    "none": (Epilogue(False, 2.0), None),
}
OPTIONS = {"padding": 2, "t_invert": 1.0}


@pytest.fixture
def tensors():
    return torch.randn(3, 2, 11, 9), torch.randn(7, 2, 5, 5), torch.randn(7)


@pytest.mark.parametrize("name", POOLS)
def test_block_is_the_epilogue_of_the_layer(backend, tensors, name):
    x, weight, bias = tensors
    epilogue, _ = POOLS[name]
    whole = functional.softhebb_conv2d(x, weight, bias, backend="reference", **OPTIONS)
    for update in (None, "delta_w"):
        out = functional.softhebb_block(
            x, weight, epilogue, bias, update=update, backend=backend, **OPTIONS
        )
        assert_close(out.out, epilogue.apply(whole.u), TOL)
        assert (out.delta_w is None) == (update is None)
    assert_close(out.delta_w, whole.delta_w, TOL)
    assert_close(out.delta_b, whole.delta_b, TOL)


@pytest.mark.parametrize("means", [1, 2, 4])
@pytest.mark.parametrize("neurons", [12, 280])  # in one tile, and in parts that groups cut
def test_groups_have_means_of_their_own(backend, neurons, means):
    x, weight = torch.randn(3, 8, 11, 9), torch.randn(neurons, 2, 5, 5)
    options = OPTIONS | {"groups": 4, "backend": backend}
    epilogue = POOLS["max"][0]._replace(groups=means)
    u = functional.softhebb_conv2d(x, weight, **options | {"backend": "reference"}).u
    single = epilogue._replace(groups=1)
    want = torch.cat([single.apply(part) for part in u.chunk(means, dim=1)], dim=1)
    out = functional.softhebb_block(x, weight, epilogue, **options).out
    assert_close(out, want, TOL)


def test_steps_in_place_are_the_update_applied(backend, tensors):
    x, weight, _ = tensors
    flat, matrix = x.flatten(1), torch.randn(7, x[0].numel())
    rates = {"lr": 0.1, "lr_power": 0.5}
    epilogue, _ = POOLS["max"]
    expected, stepped, blocked = weight.clone(), weight.clone(), weight.clone()
    whole = functional.softhebb_conv2d(x, weight, backend="reference", **OPTIONS)
    functional.hebbian_step_(expected, whole.delta_w, **rates)
    step = functional.softhebb_conv2d_step_(x, stepped, backend=backend, **rates, **OPTIONS)
    functional.softhebb_block(
        x, blocked, epilogue, update="in_place", backend=backend, **rates, **OPTIONS
    )
    for changed in (stepped, blocked):
        assert_close(changed, expected, TOL)
    assert_close(step.u, whole.u, TOL)

    expected = matrix.clone()
    whole = functional.softhebb_linear(flat, matrix, t_invert=0.1, backend="reference")
    functional.hebbian_step_(expected, whole.delta_w, **rates)
    step = functional.softhebb_linear_step_(flat, matrix, t_invert=0.1, backend=backend, **rates)
    assert_close(matrix, expected, TOL)
    assert_close(step.u, whole.u, TOL)


def test_a_rate_that_is_a_tensor_is_read_when_the_step_runs(backend, tensors):
    x, weight, _ = tensors
    matrix = torch.randn(7, x[0].numel())
    rate = torch.zeros((), dtype=torch.float64)

    def steps(w, **rates):
        given = {"backend": backend, **rates}
        functional.softhebb_conv2d_step_(x, w[0], **given, **OPTIONS)
        functional.softhebb_block(x, w[1], POOLS["max"][0], update="in_place", **given, **OPTIONS)
        functional.softhebb_linear_step_(x.flatten(1), w[2], t_invert=0.1, **given)

    number, tensor = ([w.clone() for w in (weight, weight, matrix)] for _ in range(2))
    for lr in (0.1, 0.07):
        rate.fill_(lr)
        steps(number, lr=lr)
        steps(tensor, lr=rate)
    assert all(torch.equal(a, b) for a, b in zip(number, tensor, strict=True))
    assert not torch.equal(number[0], weight)


@pytest.mark.parametrize(
    ("lr", "error", "message"),
    [
        (torch.ones(2), ValueError, "lr must be a number; got torch.float32 of shape"),
        (torch.ones((), dtype=torch.complex64), ValueError, "lr must be a number; got torch.comp"),
        (torch.ones((), device="meta"), ValueError, "lr must lie on cpu or on the CPU; got"),
        ("0.1", TypeError, "lr must be a number; got '0.1'"),
    ],
)
def test_a_rate_that_is_none_is_an_error(tensors, lr, error, message):
    x, weight, _ = tensors
    before = weight.clone()
    with pytest.raises(error, match=message):
        functional.softhebb_conv2d_step_(x, weight, lr=lr, **OPTIONS)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("update", ["grad", "in_place"])
@pytest.mark.parametrize("name", POOLS)
def test_fused_module_equals_its_parts(backend, name, update):
    _, pool = POOLS[name]
    activation = {"max": Triangle(0.7), "avg": Triangle(1.4), "none": RePU(2.0)}[name]
    block = SoftHebbBlock(
        2, 7, 5, 1, 2, t_invert=1.0, activation=activation, pool=pool, bias=True, lr=0.1,
        update=update, backend=backend,
    )  # fmt: skip
    parts = copy.deepcopy(block)
    x = torch.randn(3, 2, 11, 9)
    for training in (True, True, False):
        block.train(training), parts.train(training)
        with torch.no_grad():
            out = block(x)
            expected = x
            for part in (parts.norm, parts.layer, parts.activation, parts.pool):
                expected = expected if part is None else part(expected)
        assert_close(out, expected, TOL)
        if update == "grad" and training:
            assert_close(block.layer.weight.grad, parts.layer.weight.grad, TOL)
    for own, other in zip(block.state_dict().values(), parts.state_dict().values(), strict=True):
        assert_close(own.double(), other.double(), TOL)


@pytest.mark.skipif(why_not("cpp", "cpu") is not None, reason=str(why_not("cpp", "cpu")))
def test_what_is_fused(monkeypatch):
    calls = []
    whole = functional.softhebb_block
    monkeypatch.setattr(
        functional, "softhebb_block", lambda *a, **k: calls.append(1) or whole(*a, **k)
    )
    block = SoftHebbBlock(2, 7, 3, lr=0.1, update="in_place")
    x = torch.randn(3, 2, 8, 8)

    def fused(**changes) -> bool:
        calls.clear()
        copied = copy.deepcopy(block)
        for name, value in changes.items():
            setattr(copied.layer, name, value)
        copied(x)
        return bool(calls)

    assert fused()
    assert not fused(backend="reference")
    assert not fused(training=False), "the weight wants a gradient"
    block.layer.weight.requires_grad_(False)
    assert fused(training=False)
    x.requires_grad_()
    assert not fused()
    with torch.no_grad():
        assert fused()


def test_wanted_gradients_reach_input_and_weight():
    block = SoftHebbBlock(2, 7, 3, pool=nn.MaxPool2d(2)).eval()
    x = torch.randn(3, 2, 8, 8, requires_grad=True)
    block(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert block.layer.weight.grad.abs().sum() > 0


def test_hooks_are_heard():
    block = SoftHebbBlock(2, 7, 3, pool=nn.MaxPool2d(2)).eval()
    heard = []
    block.activation.register_forward_hook(lambda *_: heard.append("activation"))
    with torch.no_grad():
        block(torch.randn(3, 2, 8, 8))
    assert heard == ["activation"]


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(2, 2, dilation=2),
        nn.AvgPool2d(4, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d(2),
    ],
    ids=["ceil", "dilated", "padding-not-counted", "divisor", "adaptive"],
)
def test_pools_without_a_fused_form_are_left_to_torch(pool):
    layer = SoftHebbConv2d(2, 7, 3, padding=1)
    block = Block(layer, activation=Triangle(), pool=pool).eval()
    x = torch.randn(3, 2, 9, 9)
    with torch.no_grad():
        assert torch.equal(block(x), pool(Triangle()(layer(x))))


@pytest.mark.parametrize(
    ("epilogue", "options", "named"),
    [
        (Epilogue(pool="min"), {}, "epilogue.pool"),
        (Epilogue(power=0.0), {}, "epilogue.power"),
        (Epilogue(kernel=(2, 2), padding=(2, 2)), {}, "epilogue.padding"),
        (Epilogue(kernel=(9, 9)), {}, "pooled map would be empty"),
        (Epilogue(groups=0), {}, "epilogue.groups"),
        (Epilogue(groups=2), {}, "epilogue.groups must divide the groups of the convolution, 1"),
        (Epilogue(), {"update": "twice"}, "update"),
        (Epilogue(), {"update": "in_place"}, "lr"),
    ],
)
def test_errors_name_the_argument(epilogue, options, named):
    with pytest.raises(ValueError, match=named):
        functional.softhebb_block(
            torch.randn(1, 2, 6, 6), torch.randn(3, 2, 3, 3), epilogue, **options
        )
