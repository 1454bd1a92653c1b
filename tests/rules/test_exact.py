"""The reference computes what the formulas of the table say, to rounding."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.functional import hebbian_conv1d, hebbian_conv2d, hebbian_linear
from softhebb_fast.kinds import RULES
from tests.rules import oracle
from tests.rules.cases import OWN, needs, of_oracle
from tests.tolerances import TOLERANCES, assert_close, tolerance

GEOMETRIES = {
    "plain": {},
    "groups": {"groups": 2},
    "strided": {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
    "zeros": {"padding": (2, 1), "padding_mode": "zeros"},
    "circular": {"padding": (1, 1), "padding_mode": "circular", "groups": 2},
    "replicate": {"padding": (0, 1), "padding_mode": "replicate"},
}


def drawn(rule, seed=0, neurons=6, **geometry):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 4, 7, 8, generator=draw, dtype=torch.float64)
    channels = 4 // geometry.get("groups", 1)
    w = torch.randn(neurons, channels, 3, 2, generator=draw, dtype=torch.float64) / 4
    u = hebbian_conv2d(x, w, backend="reference", **geometry).u
    return x, w, draw, u.shape


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("biased", [False, True])
def test_convolutions(rule, geometry, biased):
    geometry = GEOMETRIES[geometry]
    x, w, draw, size = drawn(rule, **geometry)
    groups = geometry.get("groups", 1)
    options = OWN.get(rule, {}) | needs(rule, size, groups, draw)
    bias = torch.randn(6, generator=draw, dtype=torch.float64) if biased else None
    got = hebbian_conv2d(x, w, bias, rule=rule, **options, **geometry, backend="reference")
    want = oracle.conv2d(x, w, bias, rule, **of_oracle(rule, options), **geometry)
    assert_close(got.u, want.u, TOLERANCES["float64"])
    assert_close(got.delta_w, want.delta_w, TOLERANCES["float64"])
    assert (got.statistic is None) == (want.statistic is None)
    if want.statistic is not None:
        assert_close(got.statistic, want.statistic, TOLERANCES["float64"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("normalise", ["max", "mean", "none"])
@pytest.mark.parametrize("lebesgue_p", [2.0, 3.0])
def test_modulated_decaying_and_normalised(rule, normalise, lebesgue_p):
    x, w, draw, size = drawn(rule, seed=1, groups=2)
    options = OWN.get(rule, {}) | needs(rule, size, 2, draw)
    options.pop("counts", None)
    modulator = torch.randn(size[0], 1, *size[2:], generator=draw, dtype=torch.float64)
    options |= {"decay": 0.3, "normalise": normalise, "modulator": modulator}
    options["lebesgue_p"] = lebesgue_p
    got = hebbian_conv2d(x, w, rule=rule, groups=2, **options, backend="reference")
    want = oracle.conv2d(x, w, None, rule, groups=2, **of_oracle(rule, options))
    assert_close(got.delta_w, want.delta_w, TOLERANCES["float64"])
    if want.statistic is not None:
        assert_close(got.statistic, want.statistic, TOLERANCES["float64"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("neurons", [1, 5, 23])
def test_linear_layers(rule, neurons):
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(2, 7, 11, generator=draw, dtype=torch.float64)
    w = torch.randn(neurons, 11, generator=draw, dtype=torch.float64) / 3
    options = OWN.get(rule, {}) | needs(rule, (14, neurons), 1, draw)
    if rule == "krotov":
        options["rank"] = 1
    modulator = torch.randn(14, generator=draw, dtype=torch.float64)
    given = options | {"modulator": modulator.view(2, 7)}
    if "target" in given:
        given["target"] = given["target"].view(2, 7, neurons)
    got = hebbian_linear(x, w, rule=rule, **given, backend="reference")
    rows = x.view(14, 11)
    want = oracle.linear(rows, w, None, rule, **of_oracle(rule, options | {"modulator": modulator}))
    assert_close(got.u.view(14, neurons), want.u, TOLERANCES["float64"])
    assert_close(got.delta_w, want.delta_w, TOLERANCES["float64"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"krotov", "kmeans", "softhebb"}))
def test_other_dtypes_are_summed_in_float32(rule, dtype):
    x, w, draw, size = drawn(rule, seed=3)
    options = OWN.get(rule, {}) | needs(rule, size, 1, draw)
    got = hebbian_conv2d(x.to(dtype), w.to(dtype), rule=rule, **options, backend="reference")
    exact = x.to(dtype).double(), w.to(dtype).double()
    want = oracle.conv2d(*exact, None, rule, **of_oracle(rule, options))
    assert got.u.dtype == got.delta_w.dtype == dtype
    assert_close(got.u, want.u, tolerance(dtype, "u"))
    assert_close(got.delta_w, want.delta_w, tolerance(dtype, "delta_w"))
    assert got.statistic is None or got.statistic.dtype == torch.float32


@pytest.mark.parametrize("rule", ["krotov", "instar", "kmeans"])
def test_exact_ties_go_to_the_first(rule):
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    w = torch.tensor([[0.5, 0.5]] * 3, dtype=torch.float64)
    options = {"rank": 1} if rule == "krotov" else {"wta": "hard"}
    options |= {"counts": torch.zeros(3)} if rule == "kmeans" else {}
    got = hebbian_linear(x, w, rule=rule, **options, backend="reference")
    want = oracle.linear(x, w, None, rule, **of_oracle(rule, options))
    assert_close(got.delta_w, want.delta_w, TOLERANCES["float64"])
    assert got.delta_w[0].abs().max() > 0
    assert not got.delta_w[1:].any()


@pytest.mark.parametrize("rule", RULES)
def test_nan_in_one_patch_is_seen_in_u_and_in_the_direction(rule):
    x, w, draw, size = drawn(rule, seed=4)
    options = OWN.get(rule, {}) | needs(rule, size, 1, draw)
    clean = hebbian_conv2d(x, w, rule=rule, **options, backend="reference").u
    x[1, 2, 3, 4] = float("nan")
    got = hebbian_conv2d(x, w, rule=rule, **options, backend="reference")
    met = got.u.isnan()
    assert met.any()
    assert not met.all()
    assert torch.equal(got.u[~met], clean[~met])
    assert got.delta_w.isnan().any()


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_batch_teaches_nothing(rule):
    w = torch.randn(4, 5)
    options = needs(rule, (0, 4), 1, torch.Generator())
    out = hebbian_linear(torch.empty(0, 5), w, rule=rule, **options, backend="reference")
    assert out.u.shape == (0, 4)
    assert not out.delta_w.any()


@pytest.mark.parametrize("rule", RULES)
def test_sequences_are_images_of_one_row(rule):
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(2, 3, 9, generator=draw, dtype=torch.float64)
    w = torch.randn(4, 3, 2, generator=draw, dtype=torch.float64)
    options = OWN.get(rule, {}) | needs(rule, (2, 4, 8), 1, draw)
    options["modulator"] = torch.randn(2, 1, 8, generator=draw, dtype=torch.float64)
    got = hebbian_conv1d(x, w, rule=rule, **options, backend="reference")
    rows = {k: v.unsqueeze(2) if k in ("modulator", "target") else v for k, v in options.items()}
    want = hebbian_conv2d(x.unsqueeze(2), w.unsqueeze(2), rule=rule, **rows, backend="reference")
    assert torch.equal(got.u, want.u.squeeze(2))
    assert torch.equal(got.delta_w, want.delta_w.squeeze(2))


def test_softhebb_is_the_function_of_its_own():
    from softhebb_fast.functional import softhebb_conv2d

    x, w, _, _ = drawn("softhebb")
    for backend in ("auto", "reference"):
        got = hebbian_conv2d(x, w, padding=1, backend=backend)
        want = softhebb_conv2d(x, w, padding=1, backend=backend)
        assert all(torch.equal(a, b) for a, b in zip(got[:2], want[:2], strict=True))
        assert got.delta_b is None
        assert got.statistic is None
