"""The native layer against two independent float64 statements of it, and at its edges."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import assume, example, given, settings

from softhebb_fast import extension
from softhebb_fast.kinds import WTA
from softhebb_fast.options import Competition
from tests import oracle
from tests.by_keyword import ops, reference
from tests.cpp.native import (
    assert_conv2d_is_the_oracle,
    assert_float32_is_the_oracle_outside_the_band,
    assert_same_bits,
)
from tests.strategies import Case, conv_cases, linear_cases
from tests.tolerances import (
    TOLERANCES,
    assert_close,
    assert_outputs_close,
    tolerance,
)

pytestmark = pytest.mark.skipif(extension.MISSING is not None, reason=str(extension.MISSING))

OPTIONS = dict(
    stride=(1, 1),
    padding=(1, 1),
    dilation=(1, 1),
    groups=1,
    t_invert=1.0,
    wta="soft_anti",
    delta=2.0,
    rank=2,
    padding_mode="reflect",
    pre_triangle=False,
    lebesgue_p=2.0,
    tie_rule="first",
)
LINEAR = {name: OPTIONS[name] for name in Competition._fields}


def layer(shape, weight_shape, dtype=torch.float32):
    x = torch.randn(shape, dtype=torch.float64)
    weight = torch.randn(weight_shape, dtype=torch.float64)
    weight /= weight[0].numel() ** 0.5
    return x.to(dtype), weight.to(dtype)


@settings(max_examples=300)
@given(conv_cases())
def test_conv2d_is_the_oracle(case: Case):
    assert_conv2d_is_the_oracle(case)


@settings(max_examples=200)
@given(linear_cases())
def test_linear_is_the_oracle(case: Case):
    x, weight, bias = case.tensors()
    expected = oracle.linear(x, weight, bias, **case.options)
    assume(expected.condition < 1e3)
    assert_outputs_close(ops.linear(x, weight, bias, **case.options), expected)


MEAN_OF_MANY = Case(  # biases make the mean many times what it leaves of u
    (3, 15, 3, 3),
    (95, 15, 3, 3),
    True,
    OPTIONS | dict(padding=(0, 0), t_invert=0.5, rank=1, pre_triangle=True, lebesgue_p=3.0),
    2,
)


@settings(max_examples=200)
@given(conv_cases())
@example(MEAN_OF_MANY)
def test_float32_is_the_oracle_outside_the_band(case: Case):
    assert_float32_is_the_oracle_outside_the_band(case)


PUBLISHED = {
    "cifar-1": ((2, 3, 32, 32), (96, 3, 5, 5), 2),
    "cifar-2": ((2, 96, 16, 16), (384, 96, 3, 3), 1),
    "cifar-3": ((2, 384, 8, 8), (1536, 384, 3, 3), 1),
    "mnist": ((3, 1, 28, 28), (128, 1, 3, 3), 1),
    "stl-1": ((1, 3, 96, 96), (24, 3, 7, 7), 3),
}


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes(name, wta):
    shape, weight_shape, pad = PUBLISHED[name]
    x, weight = layer(shape, weight_shape)
    options = OPTIONS | dict(padding=(pad, pad), wta=wta)
    exact = reference.conv2d(x.double(), weight.double(), None, **options)
    out = ops.conv2d(x, weight, None, **options)
    plain = reference.conv2d(x, weight, None, **options)
    assert_close(out.u, exact.u, tolerance(torch.float32, "u"))
    drift = (plain.delta_w - exact.delta_w).abs().max()
    if wta.startswith("soft"):
        assert_close(
            out.delta_w, exact.delta_w, max(tolerance(torch.float32, "delta_w"), 2 * drift)
        )
    else:  # positions inside the band may go to either neuron, in the reference too
        assert (out.delta_w - exact.delta_w).abs().mean() < max(1e-5, 2 * float(drift))


@pytest.mark.parametrize("positions", [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 511, 513, 1025])
@pytest.mark.parametrize("neurons", [1, 5, 33])
def test_sizes_at_the_edges_of_tiles_and_strips(positions, neurons):
    x, weight = layer((1, 2, 1, positions), (neurons, 2, 1, 1), torch.float64)
    options = OPTIONS | dict(padding=(0, 0))
    expected = oracle.conv2d(x, weight, **options)
    assert_outputs_close(ops.conv2d(x, weight, None, **options), expected)


@pytest.mark.parametrize("neurons", [255, 300, 512, 700])
@pytest.mark.parametrize("inputs", [215, 217, 433])
@pytest.mark.parametrize("batch", [1, 63, 170])
def test_sizes_at_the_edges_of_slices(neurons, inputs, batch):
    x, weight = layer((batch, inputs), (neurons, inputs), torch.float64)
    expected = reference.linear(x, weight, None, **LINEAR)
    assert_outputs_close(ops.linear(x, weight, None, **LINEAR), expected)


def test_several_panels_add_up():
    x, weight = layer((40, 64, 16, 16), (160, 64, 3, 3), torch.float64)  # 24 MiB hold 4200
    bias = torch.randn(160, dtype=torch.float64)
    options = OPTIONS | dict(pre_triangle=True)
    expected = reference.conv2d(x, weight, bias, **options)
    assert_outputs_close(ops.conv2d(x, weight, bias, **options), expected)


def test_many_groups():
    x, weight = layer((3, 12, 9, 9), (24, 1, 3, 3), torch.float64)
    options = OPTIONS | dict(groups=12, wta="hard_anti")
    expected = oracle.conv2d(x, weight, **options)
    assert_outputs_close(ops.conv2d(x, weight, None, **options), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    x, weight = layer((2, 8, 12, 12), (48, 8, 3, 3), dtype)
    bias = torch.full((48,), -3.0, dtype=dtype)
    out = ops.conv2d(x, weight, bias, **OPTIONS)
    expected = ops.conv2d(x.float(), weight.float(), bias.float(), **OPTIONS)
    assert out.u.dtype == out.delta_w.dtype == out.delta_b.dtype == dtype
    assert torch.equal(out.u, expected.u.to(dtype))
    assert torch.equal(out.delta_w, expected.delta_w.to(dtype))
    assert torch.equal(out.delta_b, expected.delta_b.to(dtype))
    out = ops.linear(x.flatten(1), weight.new_ones(5, 8 * 144), None, **LINEAR)
    expected = ops.linear(x.flatten(1).float(), torch.ones(5, 8 * 144), None, **LINEAR)
    assert torch.equal(out.u, expected.u.to(dtype))


def layouts(x):
    b, c, h, w = x.shape
    yield "contiguous", x
    yield "channels_last", x.contiguous(memory_format=torch.channels_last)
    wide = torch.full((2 * b, c + 1, h + 2, 2 * w), float("nan"), dtype=x.dtype)
    wide[::2, 1:, 1:-1, ::2] = x
    yield "sliced", wide[::2, 1:, 1:-1, ::2]
    yield "transposed", x.transpose(2, 3).contiguous().transpose(2, 3)


@pytest.mark.parametrize("neurons", [7, 300])
def test_layouts_give_the_same_bits(neurons):
    x, weight = layer((2, 18, 9, 11), (neurons, 18, 3, 3))
    expected = ops.conv2d(x, weight, None, **OPTIONS)
    for name, view in layouts(x):
        out = ops.conv2d(view, weight, None, **OPTIONS)
        assert torch.equal(out.u, expected.u), name
        assert torch.equal(out.delta_w, expected.delta_w), name
        last = name == "channels_last"
        assert out.u.is_contiguous(memory_format=torch.channels_last) == last, name
    for view in (weight.transpose(2, 3).contiguous().transpose(2, 3), weight[:, :, :, :]):
        assert torch.equal(ops.conv2d(x, view, None, **OPTIONS).delta_w, expected.delta_w)


def test_linear_reads_transposed_inputs():
    x, weight = layer((40, 30), (20, 30), torch.float64)
    expected = oracle.linear(x, weight, **LINEAR)
    wide = torch.zeros(40, 60, dtype=torch.float64)
    wide[:, ::2] = x
    for view in (x.t().contiguous().t(), wide[:, ::2]):
        assert_outputs_close(ops.linear(view, weight, None, **LINEAR), expected)


def test_literal_values():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    out = ops.linear(x, weight, None, **(LINEAR | dict(wta="hard")))
    assert out.u.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert out.delta_w.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    weight = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    out = ops.linear(x, weight, None, **(LINEAR | dict(wta="hard")))
    # neuron 0 wins its pattern with u = 2: D = x - 2 w = (-3, 0); neuron 1: (0, 1 - 0.25)
    assert out.delta_w.tolist() == [[-1.0, 0.0], [0.0, 0.25]]


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("twins", [2, 96, 1536])
def test_identical_filters_tie_and_only_the_first_parts(wta, twins):
    x = torch.randn(4, 5, 9, 9)
    weight = torch.randn(1, 5, 3, 3).expand(twins, 5, 3, 3).contiguous()
    options = OPTIONS | dict(wta=wta, rank=2 if twins > 1 else 1)
    out = ops.conv2d(x, weight, None, **options)
    assert all(torch.equal(out.u[:, 0], out.u[:, k]) for k in range(twins))
    alike = [torch.equal(out.delta_w[-1], out.delta_w[k]) for k in range(twins)]
    competition = Competition(wta=wta, rank=options["rank"])
    y = reference.soft_wta(torch.zeros(1, twins), competition)[0]
    special = int((y != y[-1]).sum())
    assert alike[special:] == [True] * (twins - special)
    if special and twins > special:
        assert not any(alike[:special])
    if wta == "soft_anti":
        assert torch.equal(out.delta_w[0], -out.delta_w[1])  # y is 1 / K, with either sign


def test_an_empty_batch_changes_nothing():
    x, weight = layer((0, 3, 6, 6), (10, 3, 3, 3))
    bias = torch.zeros(10)
    out = ops.conv2d(x, weight, bias, **OPTIONS)
    assert out.u.shape == (0, 10, 6, 6)
    assert out.delta_w.count_nonzero() == 0
    assert out.delta_b.count_nonzero() == 0
    out = ops.linear(torch.ones(0, 700), torch.ones(600, 700), None, **LINEAR)
    assert out.delta_w.count_nonzero() == 0


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("neurons", [6, 300])
def test_nan_and_inf_go_where_the_reference_lets_them(wta, bad, neurons):
    x, weight = layer((2, 30, 6, 6), (neurons, 30, 3, 3), torch.float64)
    x[1, 1, 2, 3] = bad
    options = OPTIONS | dict(wta=wta)
    expected = reference.conv2d(x, weight, None, **options)
    out = ops.conv2d(x, weight, None, **options)
    assert torch.equal(out.u.isnan(), expected.u.isnan())
    assert torch.equal(out.u.isinf(), expected.u.isinf())
    assert torch.equal(out.delta_w.isnan(), expected.delta_w.isnan())


@pytest.mark.parametrize(
    ("shape", "weight_shape"),
    [
        ((3, 3, 20, 20), (40, 3, 5, 5)),
        ((3, 32, 12, 12), (300, 32, 3, 3)),
        ((2, 64, 8, 8), (700, 64, 3, 3)),
    ],
    ids=["small", "by-patch", "by-neuron"],
)
@pytest.mark.parametrize("wta", ["soft_anti", "hard_anti"])
def test_one_and_two_threads_give_the_same_bits(shape, weight_shape, wta):
    x, weight = layer(shape, weight_shape)
    options = OPTIONS | dict(wta=wta, pre_triangle=True)
    bias = torch.zeros(len(weight))
    assert_same_bits(lambda: ops.conv2d(x, weight, bias, **options)[:2], (1, 2, 3))


# Whichever thread takes a part: BLAS sums in another order where memory is aligned otherwise.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 1, 9, 7), (5, 2, 11, 13)])
def test_two_threads_give_the_same_bits_every_time(shape, dtype):
    x, weight = layer(shape, (shape[0], shape[1], 3, 3))
    x, weight = x.to(dtype), weight.to(dtype)
    compute = partial(ops.conv2d, x, weight, None, **OPTIONS)
    assert_same_bits(lambda: compute()[:2], (2,) * 500)


def denormals_survive() -> bool:
    return bool(torch.full((1,), 1e-40).mul(1.0).ne(0).item())


@pytest.mark.parametrize("flush", [False, True])
def test_the_denormal_mode_of_the_caller_comes_back(flush):
    x, weight = layer((2, 3, 8, 8), (8, 3, 3, 3))
    torch.set_flush_denormal(flush)
    try:
        assert denormals_survive() != flush
        ops.conv2d(x, weight, None, **OPTIONS)
        assert denormals_survive() != flush
        with pytest.raises(RuntimeError, match="rank must lie in"):
            ops.conv2d(x, weight, None, **(OPTIONS | dict(wta="hard_anti", rank=9)))
        assert denormals_survive() != flush
    finally:
        torch.set_flush_denormal(False)


def test_no_denormals_enter_the_sums():
    x = torch.ones(1, 1, 1, 1)
    weight = torch.tensor([0.0, -95.0]).view(2, 1, 1, 1)  # exp(-95) is a denormal
    out = ops.conv2d(x, weight, None, **(OPTIONS | dict(padding=(0, 0), wta="soft")))
    assert out.delta_w.flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(padding=(8, 8)), "do not fit"),
        (dict(groups=2), "groups"),
        (dict(wta="krotov"), "wta must be"),
        (dict(stride=(0, 1)), "do not fit"),
    ],
)
def test_the_operator_itself_refuses_what_would_read_out_of_bounds(options, message):
    x, weight = layer((2, 3, 8, 8), (8, 3, 3, 3))
    with pytest.raises(RuntimeError, match=message):
        ops.conv2d(x, weight, None, **(OPTIONS | options))


def test_exponentials_are_accurate():
    u = torch.linspace(0, 87, 4097)
    weight = torch.stack([torch.zeros(1), -torch.ones(1)])
    out = ops.linear(u.view(-1, 1), weight, None, **(LINEAR | dict(wta="soft")))
    p = torch.exp(-u.double()) / (1 + torch.exp(-u.double()))
    d = (p * u.double()).sum() + (p * -u.double()).sum() * -weight[1].double()
    exact = oracle.linear(u.view(-1, 1), weight, **(LINEAR | dict(wta="soft")))
    assert_close(out.delta_w, exact.delta_w, TOLERANCES["float32_delta_w"])
    assert d.isfinite()
