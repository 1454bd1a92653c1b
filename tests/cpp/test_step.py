"""In-place steps and fused blocks against what they are made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from softhebb_fast import extension
from softhebb_fast.options import Epilogue
from tests.by_keyword import ops, reference
from tests.cpp.native import assert_same_bits
from tests.cpp.test_layer import LINEAR, OPTIONS, layer
from tests.strategies import Case, conv_cases, linear_cases
from tests.tolerances import TOLERANCES, assert_close

pytestmark = pytest.mark.skipif(extension.MISSING is not None, reason=str(extension.MISSING))

STEP = dict(lr=0.3, lr_power=0.5)
POWERS = (0.5, 0.7, 1.0, 1.4, 2.0)


def epilogue_of(u: torch.Tensor, e: Epilogue) -> torch.Tensor:
    a = F.relu(u - u.mean(dim=1, keepdim=True) if e.centre else u) ** e.power
    pool = F.max_pool2d if e.pool == "max" else F.avg_pool2d
    return pool(a, e.kernel, e.stride, e.padding)


@st.composite
def epilogues(draw: st.DrawFn) -> Epilogue:
    kernel = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    return Epilogue(
        draw(st.booleans()),
        draw(st.sampled_from((*POWERS, 3.3))),
        draw(st.sampled_from(("max", "avg"))),
        kernel,
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        tuple(draw(st.integers(0, k // 2)) for k in kernel),
    )


def fits(u: torch.Tensor, e: Epilogue) -> bool:
    sizes = zip(u.shape[2:], e.kernel, e.padding, strict=True)
    return all(n + 2 * p >= k for n, k, p in sizes)


@settings(max_examples=150)
@given(conv_cases())
def test_a_convolution_steps_along_its_delta(case: Case):
    x, weight, bias = case.tensors()
    out = ops.conv2d(x, weight, bias, **case.options)
    expected = reference.hebbian_step_(
        weight.clone(), out.delta_w, **STEP, lebesgue_p=case.options["lebesgue_p"]
    )
    u, delta_b, _ = ops.conv2d_step_(x, weight, bias, **STEP, **case.options)
    assert torch.equal(u, out.u)
    assert (delta_b is None) == (out.delta_b is None)
    assert delta_b is None or torch.equal(delta_b, out.delta_b)
    assert_close(weight, expected, TOLERANCES["float64"])


@settings(max_examples=80)
@given(linear_cases())
def test_a_linear_layer_steps_along_its_delta(case: Case):
    x, weight, bias = case.tensors()
    out = ops.linear(x, weight, bias, **case.options)
    expected = reference.hebbian_step_(
        weight.clone(), out.delta_w, **STEP, lebesgue_p=case.options["lebesgue_p"]
    )
    u, *_ = ops.linear_step_(x, weight, bias, **STEP, **case.options)
    assert torch.equal(u, out.u)
    assert_close(weight, expected, TOLERANCES["float64"])


@settings(max_examples=200)
@given(conv_cases(), epilogues())
def test_a_block_is_a_layer_and_its_epilogue(case: Case, e: Epilogue):
    x, weight, bias = case.tensors()
    out = ops.conv2d(x, weight, bias, **case.options)
    if not fits(out.u, e):
        with pytest.raises(RuntimeError, match="would be empty"):
            ops.block_forward(x, weight, bias, e, **case.options)
        return
    expected = epilogue_of(out.u, e)
    pooled = ops.block_forward(x, weight, bias, e, **case.options)
    assert_close(pooled, expected, TOLERANCES["float64"])
    learned, delta_w, delta_b, _ = ops.block_update(x, weight, bias, e, **case.options)
    assert torch.equal(learned, pooled)
    assert torch.equal(delta_w, out.delta_w)
    assert delta_b is None or torch.equal(delta_b, out.delta_b)
    twin = weight.clone()
    ops.conv2d_step_(x, twin, bias, **STEP, **case.options)
    stepped, *_ = ops.block_step_(x, weight, bias, e, **STEP, **case.options)
    assert torch.equal(stepped, pooled)
    assert torch.equal(weight, twin)


BLOCKS = {
    "cifar-1": (
        (3, 3, 32, 32),
        (96, 3, 5, 5),
        2,
        Epilogue(True, 0.7, "max", (4, 4), (2, 2), (1, 1)),
    ),
    "cifar-2": (
        (2, 96, 16, 16),
        (384, 96, 3, 3),
        1,
        Epilogue(True, 1.4, "max", (4, 4), (2, 2), (1, 1)),
    ),
    "cifar-3": ((5, 384, 8, 8), (1536, 384, 3, 3), 1, Epilogue(True, 1.0, "avg", (2, 2), (2, 2))),
    "stl-1": (
        (1, 3, 96, 96),
        (24, 3, 5, 5),
        2,
        Epilogue(False, 2.0, "avg", (4, 4), (2, 2), (1, 1)),
    ),
    "wide": (
        (2, 16, 60, 61),
        (260, 16, 4, 4),
        2,
        Epilogue(True, 0.5, "max", (3, 2), (2, 3), (1, 0)),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", BLOCKS)
def test_published_blocks(name, dtype):
    shape, weight_shape, pad, e = BLOCKS[name]
    x, weight = layer(shape, weight_shape, dtype)
    options = OPTIONS | dict(padding=(pad, pad))
    u = ops.conv2d(x.float(), weight.float(), None, **options).u
    tolerance = TOLERANCES["float32_u" if dtype == torch.float32 else "bfloat16"]
    assert_close(ops.block_forward(x, weight, None, e, **options), epilogue_of(u, e), 2 * tolerance)


@pytest.mark.parametrize("power", POWERS)
def test_powers_are_accurate_over_the_whole_range(power):
    x = torch.logspace(-30, 15, 4001).view(1, 1, 1, -1)
    weight = torch.ones(1, 1, 1, 1)
    options = OPTIONS | dict(padding=(0, 0))
    e = Epilogue(centre=False, power=power)
    exact = x.double() ** power
    normal = (exact > 1.2e-38) & (exact < 1e38)
    out = ops.block_forward(x, weight, None, e, **options).double()
    error = (out / exact - 1)[normal].abs().max()
    assert error < (1e-7 if power in (1.0, 2.0, 0.5) else 1e-5)


def test_special_values_pass_through_activation_and_pooling():
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([-inf, -2.0, 0.0, 1.0, inf, nan, 4.0, 9.0]).view(1, 1, 1, -1)
    weight, options = torch.ones(1, 1, 1, 1), OPTIONS | dict(padding=(0, 0))
    for power in POWERS:
        out = ops.block_forward(x, weight, None, Epilogue(False, power), **options).flatten()
        assert out[:5].tolist() == [0.0, 0.0, 0.0, 1.0, inf]
        assert out[5].isnan()
    pooled = Epilogue(False, 1.0, "max", (1, 2), (1, 2))
    out = ops.block_forward(x, weight, None, pooled, **options).flatten()
    assert out[:2].tolist() == [0.0, 1.0]
    assert out[2].isnan()
    assert out[3] == 9.0


def test_half_precision_weights_step_in_float32():
    x, weight = layer((2, 8, 12, 12), (48, 8, 3, 3), torch.bfloat16)
    exact = weight.float()
    ops.conv2d_step_(x.float(), exact, None, **STEP, **OPTIONS)
    ops.conv2d_step_(x, weight, None, **STEP, **OPTIONS)
    assert torch.equal(weight, exact.to(torch.bfloat16))


def test_strided_weights_step_in_place():
    x, weight = layer((2, 8, 12, 12), (48, 8, 3, 3))
    strided = weight.to(memory_format=torch.channels_last)
    ops.conv2d_step_(x, weight, None, **STEP, **OPTIONS)
    ops.conv2d_step_(x, strided, None, **STEP, **OPTIONS)
    assert torch.equal(strided, weight)


def test_parameters_step_outside_the_graph():
    x, weight = layer((6, 20), (10, 20))
    parameter = torch.nn.Parameter(weight.clone())
    u, *_ = ops.linear_step_(x, parameter, None, **STEP, **LINEAR)
    ops.linear_step_(x, weight, None, **STEP, **LINEAR)
    assert torch.equal(parameter, weight)
    assert parameter.is_leaf
    assert not u.requires_grad


@pytest.mark.parametrize("name", ["cifar-1", "cifar-2", "cifar-3"])
def test_blocks_give_the_same_bits_for_any_number_of_threads(name):
    shape, weight_shape, pad, e = BLOCKS[name]
    x, weight = layer(shape, weight_shape)
    options = OPTIONS | dict(padding=(pad, pad))

    def step() -> tuple:
        stepped = weight.clone()
        out, *_ = ops.block_step_(x, stepped, None, e, **STEP, **options)
        return out, stepped

    assert_same_bits(step, (1, 2, 5))
