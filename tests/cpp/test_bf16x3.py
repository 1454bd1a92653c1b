"""Products of float32 matrices as three of bfloat16 ones, against float64 and at their edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from softhebb_fast import extension, precision
from softhebb_fast.kinds import WTA
from tests import oracle
from tests.by_keyword import ops, reference
from tests.cpp.native import assert_same_bits
from tests.cpp.test_layer import LINEAR, OPTIONS, PUBLISHED, layer
from tests.cpp.test_step import BLOCKS, STEP, epilogue_of
from tests.strategies import Case, competitions
from tests.test_precision import needs_tiles
from tests.tolerances import TOLERANCES, assert_close, clear_of_band

pytestmark = needs_tiles

BAND = dict(tol=TOLERANCES["bf16x3_band"])
INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def _split():
    with precision.use("bf16x3"):
        yield


@st.composite
def wide_conv_cases(draw: st.DrawFn) -> Case:
    """Convolutions of at least 64 neurons and 64 patch elements a group: smaller ones stay."""
    groups, neurons, channels = (
        draw(st.integers(*range_)) for range_ in ((1, 2), (64, 101), (16, 33))
    )
    kernel = draw(st.sampled_from([(2, 2), (3, 3), (1, 4), (3, 2)]))
    geometry = {
        "stride": draw(st.sampled_from([(1, 1), (2, 1)])),
        "padding": (draw(st.integers(0, 1)), draw(st.integers(0, 1))),
        "dilation": (1, 1),
        "groups": groups,
        "padding_mode": draw(st.sampled_from(["reflect", "zeros"])),
        "pre_triangle": draw(st.booleans()),
    }
    size = (draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    return Case(
        (draw(st.integers(1, 3)), channels * groups, *size),
        (neurons * groups, channels, *kernel),
        draw(st.booleans()),
        geometry | draw(competitions(neurons)) | {"t_invert": draw(st.sampled_from([0.5, 1.0]))},
        draw(st.integers(0, 2**16)),
    )


@st.composite
def wide_linear_cases(draw: st.DrawFn) -> Case:
    batch, inputs, neurons = (draw(st.integers(*r)) for r in ((1, 70), (64, 150), (64, 150)))
    options = draw(competitions(neurons)) | {"t_invert": draw(st.sampled_from([0.5, 1.0]))}
    seed = draw(st.integers(0, 2**16))
    return Case((batch, inputs), (neurons, inputs), draw(st.booleans()), options, seed)


def check(case: Case, function, truth, **band) -> None:
    x, weight, bias = case.tensors(torch.float32)
    if case.options["wta"] == "hard_anti":
        band["rank"] = case.options["rank"]
    x = clear_of_band(x, truth(x, weight, bias, **case.options).u, **BAND, **band)
    assume(len(x))
    expected = truth(x, weight, bias, **case.options)
    assume(expected.condition < 10)
    out = function(x, weight, bias, **case.options)
    assert_close(out.u, expected.u, TOLERANCES["bf16x3_u"])
    assert_close(out.delta_w, expected.delta_w, TOLERANCES["bf16x3_delta_w"])
    if out.delta_b is not None:
        assert_close(out.delta_b, expected.delta_b, TOLERANCES["bf16x3_delta_w"])


@settings(max_examples=60)
@given(wide_conv_cases())
def test_conv2d_is_the_oracle_outside_the_band(case: Case):
    check(case, ops.conv2d, oracle.conv2d, groups=case.options["groups"])


@settings(max_examples=60)
@given(wide_linear_cases())
def test_linear_is_the_oracle_outside_the_band(case: Case):
    check(case, ops.linear, oracle.linear)


@pytest.mark.parametrize("name", ["cifar-1", "cifar-2", "cifar-3"])
def test_published_shapes(name):
    shape, weight_shape, pad = PUBLISHED[name]
    x, weight = layer(shape, weight_shape)
    options = OPTIONS | dict(padding=(pad, pad), wta="soft")
    exact = reference.conv2d(x.double(), weight.double(), None, **options)
    out = ops.conv2d(x, weight, None, **options)
    with precision.use("ieee"):
        plain = ops.conv2d(x, weight, None, **options)
    assert not torch.equal(out.u, plain.u)
    assert_close(out.u, exact.u, TOLERANCES["bf16x3_u"])
    assert_close(out.delta_w, exact.delta_w, TOLERANCES["bf16x3_delta_w"])


@pytest.mark.parametrize("sizes", [(64, 64, 1), (65, 67, 33), (97, 255, 641), (400, 257, 700)])
def test_sizes_at_the_edges_of_tiles_and_blocks(sizes):
    neurons, inputs, batch = sizes
    x, weight = layer((batch, inputs), (neurons, inputs))
    options = LINEAR | dict(wta="soft")
    expected = reference.linear(x.double(), weight.double(), None, **options)
    for view in (x, x.t().contiguous().t()):
        out = ops.linear(view, weight, None, **options)
        assert_close(out.u, expected.u, TOLERANCES["bf16x3_u"])
        assert_close(out.delta_w, expected.delta_w, TOLERANCES["bf16x3_delta_w"])


def test_whole_numbers_of_16_bits_have_exact_products():
    x = 17.0 * torch.randint(-255, 256, (70, 96))  # more than 8 bits: two parts
    weight = 1.0 * torch.randint(-7, 8, (80, 96))
    for a, b in ((x, weight), (weight, x)):
        assert torch.equal(ops.linear(a, b, None, **LINEAR).u, a @ b.t())


@pytest.mark.parametrize(("neurons", "channels"), [(63, 40), (80, 7)])
def test_small_layers_stay_in_float32(neurons, channels):
    x, weight = layer((2, channels, 8, 8), (neurons, channels, 3, 3))
    out = ops.conv2d(x, weight, None, **OPTIONS)
    with precision.use("ieee"):
        exact = ops.conv2d(x, weight, None, **OPTIONS)
    assert torch.equal(out.u, exact.u)
    assert torch.equal(out.delta_w, exact.delta_w)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_as_they_were(dtype):
    x, weight = layer((2, 16, 8, 8), (80, 16, 3, 3), dtype)
    out = ops.conv2d(x, weight, None, **OPTIONS)
    with precision.use("ieee"):
        exact = ops.conv2d(x, weight, None, **OPTIONS)
    assert torch.equal(out.u, exact.u)
    assert torch.equal(out.delta_w, exact.delta_w)


@pytest.mark.parametrize("neurons", [96, 700])
@pytest.mark.parametrize("wta", WTA)
def test_identical_filters_and_images_tie_wherever_they_lie(neurons, wta):
    image, filters = layer((1, 20, 9, 9), (neurons, 20, 3, 3))
    twins = [0, 15, 16, 31, 32, 63, 64, neurons - 2, neurons - 1]
    filters[twins] = 2 * filters[:1]
    out = ops.conv2d(image.expand(5, 20, 9, 9), filters, None, **(OPTIONS | dict(wta=wta)))
    assert all(torch.equal(out.u[:, 0], out.u[:, k]) for k in twins)
    assert all(torch.equal(out.u[0], u) for u in out.u)
    if wta == "soft":
        assert all(torch.equal(out.delta_w[0], out.delta_w[k]) for k in twins)
    else:
        assert not torch.equal(out.delta_w[0], out.delta_w[15])
        assert all(torch.equal(out.delta_w[31], out.delta_w[k]) for k in twins[4:])


def outputs(x, weight, wta="soft_anti"):
    out = ops.conv2d(x, weight, None, **(OPTIONS | dict(wta=wta)))
    pooled, delta_w, *_ = ops.block_update(
        x, weight, None, BLOCKS["cifar-2"][-1], **(OPTIONS | dict(wta=wta))
    )
    return out.u, out.delta_w, pooled, delta_w


@pytest.mark.parametrize("where", ["x", "weight"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF, 3.4028e38, 1e30, 1e16])
@pytest.mark.parametrize("neurons", [70, 300])
def test_what_cannot_be_split_is_done_in_float32(where, bad, neurons):
    x, weight = layer((2, 30, 7, 7), (neurons, 30, 3, 3))
    (x if where == "x" else weight)[1, 1, 2, 2] = bad
    found = outputs(x, weight)
    with precision.use("ieee"):
        expected = outputs(x, weight)
    for actual, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, exact, rtol=0, atol=0, equal_nan=True)


def test_u_that_overflows_spoils_what_it_does_in_float32():
    x, weight = layer((2, 30, 7, 7), (300, 30, 3, 3))
    options = OPTIONS | dict(t_invert=1e37)
    out = ops.conv2d(50 * x, weight, None, **options)
    with precision.use("ieee"):
        exact = ops.conv2d(50 * x, weight, None, **options)
    assert exact.delta_w.isnan().all()
    assert torch.equal(out.u, exact.u)
    assert out.delta_w.isnan().all()


def test_zeros_stay_zeros_and_tiny_numbers_are_flushed():
    x, weight = layer((2, 30, 7, 7), (100, 30, 3, 3))
    weight[::2] = 0
    u = ops.conv2d(x, weight, None, **OPTIONS).u
    assert u[:, ::2].count_nonzero() == 0
    assert u[:, 1::2].count_nonzero() == u[:, 1::2].numel()
    assert ops.conv2d(1e-39 * x, weight, None, **OPTIONS).u.count_nonzero() == 0
    small = ops.conv2d(1e-30 * x, weight, None, **OPTIONS).u
    assert_close(1e30 * small.double(), u, TOLERANCES["bf16x3_u"])


def test_an_empty_batch_changes_nothing():
    x, weight = layer((0, 30, 7, 7), (300, 30, 3, 3))
    out = ops.conv2d(x, weight, None, **OPTIONS)
    assert out.u.shape == (0, 300, 7, 7)
    assert out.delta_w.count_nonzero() == 0


SHAPES = {
    "small": ((3, 16, 14, 14), (80, 16, 3, 3)),
    "by-patch": ((3, 32, 12, 12), (300, 32, 3, 3)),
    "by-neuron": ((12, 64, 8, 8), (900, 64, 3, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_any_number_of_threads_gives_the_same_bits(name):
    x, weight = layer(*SHAPES[name])
    options = OPTIONS | dict(pre_triangle=True)

    def step() -> tuple:
        out = ops.conv2d(x, weight, torch.zeros(len(weight)), **options)
        stepped, e = weight.clone(), BLOCKS["cifar-2"][-1]
        pooled, *_ = ops.block_step_(x, stepped, None, e, **STEP, **OPTIONS)
        return out.u, out.delta_w, pooled, stepped

    assert_same_bits(step, (1, 2, 3, 5))


@pytest.mark.parametrize("name", ["cifar-2", "cifar-3"])
def test_blocks_are_layers_and_their_epilogues(name):
    shape, weight_shape, pad, e = BLOCKS[name]
    x, weight = layer(shape, weight_shape)
    options = OPTIONS | dict(padding=(pad, pad))
    out = ops.conv2d(x, weight, None, **options)
    pooled, delta_w, *_ = ops.block_update(x, weight, None, e, **options)
    assert torch.equal(ops.block_forward(x, weight, None, e, **options), pooled)
    assert torch.equal(delta_w, out.delta_w)
    assert_close(pooled, epilogue_of(out.u, e), TOLERANCES["float32_u"])
    twin = weight.clone()
    ops.conv2d_step_(x, twin, None, **STEP, **options)
    ops.block_step_(x, weight, None, e, **STEP, **options)
    assert torch.equal(weight, twin)


def test_opcheck():
    x, weight = layer((2, 16, 8, 8), (80, 16, 3, 3))
    arguments = (x, weight, None), OPTIONS
    torch.library.opcheck(extension.call.conv_update.default, *arguments)
    torch.library.opcheck(extension.call.conv_step_.default, arguments[0], STEP | OPTIONS)
