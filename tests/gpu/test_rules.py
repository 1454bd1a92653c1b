"""Every rule on the device against the definition in float64, and as a layer learns by it."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast import HebbianConv2d
from softhebb_fast.kinds import RULES as NAMES
from softhebb_fast.options import Rule
from tests.by_keyword import ops, reference
from tests.gpu import DEVICE, MARKS, needs_cuda, on_device
from tests.kernels.cases import Case
from tests.kernels.rules import LAYERS, RULES, assert_as_defined, exact, named
from tests.tolerances import TOLERANCES, assert_close, tolerance

pytestmark = MARKS
TAUGHT = ("teacher", "delta_rule")
RATES = {"lr": 0.2, "lr_power": 0.5, "unit_norm": True}


@pytest.fixture(autouse=True)
def _exact_products(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "ieee")


def moved(rule: Rule) -> Rule:
    """The rule with its tensors on the device."""
    return rule._make(t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in rule)


def compare(name: str, case: Case, dtype: torch.dtype = torch.float32) -> None:
    case, rule = named(name, case)
    given = case.tensors(dtype)
    wide = [None if t is None else t.double() for t in given]
    want = reference.conv2d(*wide, exact(rule), **case.conv)
    got = ops.conv2d(*on_device(given), moved(rule), **case.conv)
    assert_as_defined(got, want, dtype)


@pytest.mark.parametrize("path", ["apart", "one pass"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule(name, path, monkeypatch):
    if path == "apart":
        pytest.importorskip("triton")
        from softhebb_fast.kernels import configs

        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    compare(name, LAYERS["odd"])


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer != "odd"])
@pytest.mark.parametrize("name", ["instar", "kmeans", "oja", "sanger", "bcm", "delta_rule"])
def test_every_kind_of_layer(name, layer):
    compare(name, LAYERS[layer])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["bcm", "kmeans", "oja", "instar-modulated", "similarity"])
def test_16_bits(name, dtype):
    compare(name, LAYERS["odd"], dtype)


@pytest.mark.parametrize("name", ["instar", "kmeans", "sanger", "oja"])
def test_a_step_to_unit_norm_at_rates_of_ones_own(name):
    case, rule = named(name, LAYERS["tiles"])
    x, w, _ = case.tensors(torch.float32)
    rates = torch.arange(case.w[0]) % 3 * 0.4
    want = w.double().contiguous()
    reference.conv2d_step_(
        x.double(), want, None, exact(rule), neuron_rates=rates.double(), **RATES, **case.conv
    )
    own_x, own_w, own_rates = on_device((x, w, rates))
    ops.conv2d_step_(own_x, own_w, None, moved(rule), neuron_rates=own_rates, **RATES, **case.conv)
    assert_close(own_w, want, tolerance(torch.float32, "delta_w"))
    assert torch.equal(own_w.cpu()[rates == 0], w[rates == 0])


@pytest.mark.parametrize("rule", [name for name in NAMES if name != "softhebb"])
def test_a_layer_learns_what_it_learns_on_the_cpu(rule):
    generator = torch.Generator().manual_seed(0)
    batches = torch.randn(3, 4, 8, 8, 8, generator=generator)
    targets = torch.randn(3, 4, 12, 8, 8, generator=generator).softmax(2)
    weights = []
    for device in ("cpu", DEVICE):
        drawn = torch.Generator().manual_seed(1)
        layer = HebbianConv2d(
            8, 12, 3, padding=1, rule=rule, update="in_place", lr=0.01, generator=drawn
        )
        layer = layer.to(device)
        for x, target in zip(batches, targets, strict=True):
            layer(x.to(device), **({"target": target.to(device)} if rule in TAUGHT else {}))
        weights.append(layer.weight.detach())
    assert_close(weights[1], weights[0].double(), TOLERANCES["float32_run"])


@needs_cuda
@pytest.mark.parametrize("rule", ["kmeans", "oja", "bcm"])
def test_the_same_work_gives_the_same_bits(rule):
    case, chosen = named(rule, LAYERS["tiles"])
    x, w, bias = on_device(case.tensors(torch.float32))
    first, *others = (ops.conv2d(x, w, bias, moved(chosen), **case.conv) for _ in range(4))
    assert all(torch.equal(first.delta_w, other.delta_w) for other in others)
