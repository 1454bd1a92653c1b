"""Every rule as PTX for sm_80 and sm_90a in the emulator, against the definition."""

from __future__ import annotations

from functools import partial

import pytest
import torch

pytest.importorskip("triton")

from softhebb_fast.kernels import configs
from tests.by_keyword import kernels, reference
from tests.kernels.cases import WIDE, Case
from tests.kernels.rules import exact, named
from tests.tolerances import assert_close, tolerance

TARGETS = ("sm_80", "sm_90a")
FIRST = Case((2, 3, 9, 7), (20, 3, 5, 5), {"padding": (2, 2)})
DEEP = Case(**WIDE, layout="channels_last", bias=True)
TILES = Case((2, 3, 7, 6), (136, 3, 3, 3))
RUNS = {
    "softhebb-modulated": ("tf32x3", DEEP),
    "instar": ("bfloat16", DEEP),
    "instar-handicap": ("tf32x3", TILES),
    "kmeans": ("tf32x3", DEEP),
    "hebb-decay": ("tf32x3", DEEP),
    "oja": ("tf32x3", DEEP),
    "oja-modulated": ("float16", DEEP),
    "sanger": ("tf32x3", DEEP),
    "bcm": ("tf32x3", TILES),
    "bcm-product": ("ieee", DEEP),
    "teacher": ("tf32x3", DEEP),
    "teacher-image": ("bfloat16", DEEP),
    "delta_rule": ("tf32x3", TILES),
    "similarity-modulated": ("tf32x3", DEEP),
}
FIRST_LAYERS = ("kmeans", "oja", "bcm", "delta_rule", "instar-modulated", "similarity")
QUICK = {"kmeans", "oja"}


def run(emulated, target, name, precision, case):
    narrow = "float" in precision
    case, rule = named(name, case)
    x, w, bias = case.tensors(getattr(torch, precision) if narrow else torch.float32)
    call = partial(kernels.conv2d, x, w, bias, rule, **case.conv)
    got, reports = emulated(target, "ieee" if narrow else precision, call)
    inputs = [None if t is None else t.double() for t in (x, w, bias)]
    want = reference.conv2d(*inputs, exact(rule), **case.conv)
    assert_close(got.u, want.u, tolerance(x.dtype, "u"))
    loose = tolerance(x.dtype, "delta_w") * (2 if narrow else 1)
    assert_close(got.delta_w, want.delta_w, loose)
    assert (got.statistic is None) == (want.statistic is None)
    if want.statistic is not None:
        assert_close(got.statistic, want.statistic, loose)
    assert [r["races"] for r in reports] == [{}] * len(reports)
    return [r["kernel"] for r in reports]


def some(names, quick=QUICK):
    return [pytest.param(n, marks=() if n in quick else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", some(RUNS))
def test_rules(emulated, name, target):
    launched = run(emulated, target, name, *RUNS[name])
    assert launched == ["prepare", "forward", "plasticity", "apply"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", some(FIRST_LAYERS, {"kmeans"}))
def test_rules_of_a_first_layer(emulated, name, target):
    """In one pass where its registers hold that."""
    launched = run(emulated, target, name, "bfloat16", FIRST)
    one_pass = ["one_pass", "reduce_splits", "apply"]
    apart = ["prepare", "forward", "plasticity", "apply"]
    assert launched == (one_pass if target == "sm_90a" else apart)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", some(("kmeans", "sanger", "bcm"), {"kmeans"}))
def test_a_step_to_unit_norm(emulated, name, target, monkeypatch):
    """Filters in several tiles, at rates of the neurons' own."""
    monkeypatch.setattr(configs, "apply", lambda G: configs.Config(0, 4, 128, 4, 1))
    case, rule = named(name, DEEP._replace(bias=False))
    x, w, _ = case.tensors(torch.float32)
    step = {"lr": 0.2, "unit_norm": True, "neuron_rates": torch.arange(w.shape[0]) % 3 * 0.5}
    want = w.double().contiguous()
    wide = step | {"neuron_rates": step["neuron_rates"].double()}
    reference.conv2d_step_(x.double(), want, None, exact(rule), **wide, **case.conv)
    call = partial(kernels.conv2d_step_, x, w, None, rule, **step, **case.conv)
    _, reports = emulated(target, "tf32x3", call)
    assert_close(w, want, tolerance(torch.float32, "delta_w"))
    assert [r["races"] for r in reports] == [{}] * len(reports)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("kmeans", {("apply", "counts"), ("prepare", "distance"), ("forward", "distance")}),
        pytest.param(
            *("similarity-modulated", {("forward", "target"), ("forward", "modulator")}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("bcm", {("forward", "threshold"), ("plasticity", "y_absmax")}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_tensor_one_element_short_faults(shortened, name, more, target):
    case, rule = named(name, DEEP._replace(bias=False))
    x, w, _ = case.tensors(torch.float32)
    dense = {f: t.contiguous() for f, t in rule._asdict().items() if isinstance(t, torch.Tensor)}
    call = partial(kernels.conv2d, x, w, None, rule._replace(**dense), **case.conv)
    tried, passed = shortened(target, "tf32x3", call)
    assert more <= set(tried)
    # half of ``y_sums`` is nobody's without a gain, or where only activities count, and so is the
    # largest |D| where D is normalised by counts or the mean
    assert {parameter for _, parameter in passed} <= {"y_sums", "dw_absmax"}
