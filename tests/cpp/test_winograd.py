"""Winograd's method inside the native layer: the same layer as the direct one, at every size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softhebb_fast import extension
from softhebb_fast.kinds import PADDING_MODES, WTA
from softhebb_fast.options import Epilogue
from tests.by_keyword import ops, reference
from tests.cpp.native import (
    assert_conv2d_is_the_oracle,
    assert_float32_is_the_oracle_outside_the_band,
    assert_same_bits,
)
from tests.cpp.test_layer import OPTIONS, layer, layouts
from tests.strategies import Case, competitions
from tests.tolerances import TOLERANCES, assert_close, assert_outputs_close

pytestmark = pytest.mark.skipif(extension.MISSING is not None, reason=str(extension.MISSING))

SWITCH = "SOFTHEBB_FAST_WINOGRAD"


@pytest.fixture(autouse=True, scope="module")
def _everywhere():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, "1")
        yield


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """3x3 taps: odd and tiny maps, channels and neurons around whole vectors and blocks."""
    mode = draw(st.sampled_from(PADDING_MODES))
    padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    least = {"reflect": 1, "circular": 0}.get(mode, -2)
    size = tuple(max(1, p + least, 3 - 2 * p) + draw(st.integers(0, 9)) for p in padding)
    neurons = draw(st.sampled_from((1, 2, 5, 16, 95, 97)))
    channels = draw(st.sampled_from((1, 3, 15, 16, 17, 33)))
    geometry = {
        "stride": (1, 1),
        "padding": padding,
        "dilation": (1, 1),
        "groups": 1,
        "padding_mode": mode,
        "pre_triangle": draw(st.booleans()),
    }
    return Case(
        (draw(st.integers(1, 3)), channels, *size),
        (neurons, channels, 3, 3),
        draw(st.booleans()),
        geometry | draw(competitions(neurons)),
        draw(st.integers(0, 2**16)),
    )


@settings(max_examples=150)
@given(cases())
def test_float64_is_the_oracle(case: Case):
    assert_conv2d_is_the_oracle(case)


@settings(max_examples=150)
@given(cases())
def test_float32_is_the_oracle_outside_the_band(case: Case):
    assert_float32_is_the_oracle_outside_the_band(case)


SHAPES = {
    "cifar-2": ((4, 96, 16, 16), (384, 96, 3, 3)),
    "cifar-3": ((4, 384, 8, 8), (192, 384, 3, 3)),
    "odd": ((4, 40, 7, 11), (100, 40, 3, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_rounding_grows_less_than_promised(name, monkeypatch):
    x, weight = layer(*SHAPES[name])
    options = OPTIONS | dict(wta="soft", t_invert=0.1)  # no winner to change hands
    exact = reference.conv2d(x.double(), weight.double(), None, **options)
    winograd = ops.conv2d(x, weight, None, **options)
    monkeypatch.setenv(SWITCH, "0")
    direct = ops.conv2d(x, weight, None, **options)
    for of in ("u", "delta_w"):
        ours, theirs = (
            (getattr(out, of) - getattr(exact, of)).square().mean().sqrt()
            for out in (winograd, direct)
        )
        assert ours < TOLERANCES["winograd_growth"] * theirs


@pytest.mark.parametrize("wta", ["soft_anti", "hard_anti"])
def test_any_number_of_threads_gives_the_same_bits(wta):
    x, weight = layer((5, 33, 9, 7), (211, 33, 3, 3))
    options = OPTIONS | dict(wta=wta, pre_triangle=True)
    bias = torch.zeros(len(weight))
    assert_same_bits(lambda: ops.conv2d(x, weight, bias, **options)[:2], (1, 2, 3, 5))


@pytest.mark.parametrize("twins", [2, 97, 300])
def test_identical_filters_stay_identical(twins):
    x = torch.randn(4, 35, 9, 9)
    weight = torch.randn(1, 35, 3, 3).expand(twins, 35, 3, 3).contiguous()
    out = ops.conv2d(x, weight, None, **OPTIONS)
    assert (out.u == out.u[:, :1]).all()
    assert (out.delta_w[1:] == out.delta_w[1:2]).all()
    assert torch.equal(out.delta_w[0], -out.delta_w[1])  # y is 1 / K, with either sign


def test_several_panels_add_up():
    x, weight = layer((23, 40, 32, 32), (96, 40, 3, 3), torch.float64)
    expected = reference.conv2d(x, weight, None, **OPTIONS)
    assert_outputs_close(ops.conv2d(x, weight, None, **OPTIONS), expected)


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["x", "weight"])
def test_nan_and_inf_go_where_the_direct_method_lets_them(wta, bad, where, monkeypatch):
    x, weight = layer((3, 40, 9, 9), (97, 40, 3, 3))
    if where == "x":
        x[1, 1, 2, 3] = bad
    else:
        weight[5, 7, 1, 0] = bad
    options = OPTIONS | dict(wta=wta)
    out = ops.conv2d(x, weight, None, **options)
    expected = reference.conv2d(x, weight, None, **options).u
    assert torch.equal(out.u.isnan(), expected.isnan())
    assert torch.equal(out.u.isinf(), expected.isinf())
    monkeypatch.setenv(SWITCH, "0")
    direct = ops.conv2d(x, weight, None, **options)
    assert torch.equal(out.delta_w.isnan(), direct.delta_w.isnan())


def test_a_spoilt_panel_leaves_the_others_alone():
    x, weight = layer((23, 40, 32, 32), (96, 40, 3, 3))
    clean = ops.conv2d(x, weight, None, **OPTIONS)
    x[22, 0, 5, 5] = float("nan")
    out = ops.conv2d(x, weight, None, **OPTIONS)
    assert torch.equal(out.u[:10], clean.u[:10])
    assert int(out.u.isnan().sum()) == 9 * len(weight)
    assert out.delta_w.isnan().all()


@pytest.mark.parametrize(("scale", "inverse"), [(1e38, 1e-33), (1e-30, 1.0), (1.0, 1e37)])
def test_what_only_winograd_would_overflow_does_not(scale, inverse):
    x, weight = layer((2, 3, 6, 6), (8, 3, 3, 3))
    x, weight = x.clamp(-3, 3) * scale, weight.clamp(-1, 1) * inverse
    options = OPTIONS | dict(t_invert=1 / max(1.0, inverse))
    expected = reference.conv2d(x.double(), weight.double(), None, **options)
    assert_close(ops.conv2d(x, weight, None, **options).u, expected.u, TOLERANCES["float32_u"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    x, weight = layer((2, 18, 9, 12), (48, 18, 3, 3), dtype)
    out = ops.conv2d(x, weight, None, **OPTIONS)
    expected = ops.conv2d(x.float(), weight.float(), None, **OPTIONS)
    assert torch.equal(out.u, expected.u.to(dtype))
    assert torch.equal(out.delta_w, expected.delta_w.to(dtype))


def test_layouts_give_the_same_bits():
    x, weight = layer((2, 18, 9, 11), (300, 18, 3, 3))
    expected = ops.conv2d(x, weight, None, **OPTIONS)
    for name, view in layouts(x):
        out = ops.conv2d(view, weight, None, **OPTIONS)
        assert torch.equal(out.u, expected.u), name
        assert torch.equal(out.delta_w, expected.delta_w), name


@pytest.mark.parametrize("shape", [(2, 20, 7, 9), (1, 3, 50, 48)], ids=["in-tile", "by-panel"])
def test_a_block_is_a_layer_and_its_epilogue(shape):
    x, weight = layer(shape, (30, shape[1], 3, 3), torch.float64)
    e = Epilogue(True, 1.4, "max", (4, 4), (2, 2), (1, 1))
    whole = ops.conv2d(x, weight, None, **OPTIONS)
    out, delta_w, *_ = ops.block_update(x, weight, None, e, **OPTIONS)
    assert_close(out, e.apply(whole.u), TOLERANCES["float64"])
    assert_close(delta_w, whole.delta_w, TOLERANCES["float64"])
    assert torch.equal(ops.block_forward(x, weight, None, e, **OPTIONS), out)


def test_an_empty_batch_changes_nothing():
    x, weight = layer((0, 3, 6, 6), (10, 3, 3, 3))
    out = ops.conv2d(x, weight, None, **OPTIONS)
    assert out.u.shape == (0, 10, 6, 6)
    assert out.delta_w.count_nonzero() == 0


@pytest.mark.parametrize(
    ("shape", "neurons", "taken"),
    [
        ((2, 96, 16, 16), 384, True),
        ((2, 384, 7, 7), 64, True),
        ((2, 384, 3, 3), 64, False),  # 16 outputs computed for 9
        ((2, 16, 16, 16), 384, False),  # few channels: the transforms cost more than they save
    ],
)
def test_auto_takes_it_where_it_pays(shape, neurons, taken, monkeypatch):
    x, weight = layer(shape, (neurons, shape[1], 3, 3))
    monkeypatch.delenv(SWITCH)
    auto = ops.conv2d(x, weight, None, **OPTIONS).u
    monkeypatch.setenv(SWITCH, "1" if taken else "0")
    assert torch.equal(auto, ops.conv2d(x, weight, None, **OPTIONS).u)
    monkeypatch.setenv(SWITCH, "0" if taken else "1")
    assert not torch.equal(auto, ops.conv2d(x, weight, None, **OPTIONS).u)


def test_an_unknown_choice_is_an_error(monkeypatch):
    monkeypatch.setenv(SWITCH, "yes")
    with pytest.raises(ValueError, match="SOFTHEBB_FAST_WINOGRAD must be auto, 0 or 1"):
        ops.conv2d(*layer((1, 2, 4, 4), (3, 2, 3, 3)), None, **OPTIONS)
