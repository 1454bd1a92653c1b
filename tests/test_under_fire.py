"""What calls under fire found: each by itself, at the mechanism."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast import backends, functional, init, nn
from softhebb_fast.functional import hebbian_linear_step_, hebbian_step_, norm_dependent_rate
from softhebb_fast.reference import lebesgue_weight
from tests.tolerances import TOLERANCES, assert_close

SHORT = (torch.float16, torch.bfloat16)


def overlapping(shape):
    return torch.randn(64).as_strided(shape, [1] * len(shape))


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_weight_that_overlaps_itself_or_is_negated_is_not_stepped(backend):
    negated = torch._neg_view(torch.randn(3, 5))
    for weight, words in ((overlapping((3, 5)), "overlap itself"), (negated, "negated view")):
        before = weight.clone()
        with pytest.raises(ValueError, match=words):
            functional.softhebb_linear_step_(torch.randn(4, 5), weight, lr=0.1, backend=backend)
        with pytest.raises(ValueError, match=words):
            hebbian_step_(weight, torch.randn(3, 5), 0.1)
        assert torch.equal(weight, before)


@pytest.mark.parametrize("unit_norm", [False, True])
@pytest.mark.parametrize("seed", range(50))
def test_other_views_are_stepped_to_the_same_bits(seed, unit_norm):
    generator = torch.Generator().manual_seed(seed)
    weight, direction = (torch.randn(3, 5, generator=generator) for _ in range(2))
    want = hebbian_step_(weight.clone(), direction, 0.1, unit_norm=unit_norm)
    sliced, turned = torch.zeros(6, 10)[::2, ::2], torch.zeros(5, 3).t()
    for view in (sliced, turned):
        view.copy_(weight)
        assert torch.equal(hebbian_step_(view, direction, 0.1, unit_norm=unit_norm), want)


@pytest.mark.parametrize("dtype", SHORT)
def test_an_exponent_is_not_rounded_to_16_bits(dtype):
    u = torch.tensor([[0.001, 0.3, 5.0]], dtype=dtype)
    want = u.double() ** 1.4
    for found in (nn.RePU(1.4)(u), lebesgue_weight(u, 2.4)):
        assert found.dtype == dtype
        assert_close(found / want, torch.ones(1, 3), TOLERANCES[str(dtype).removeprefix("torch.")])


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("size", [1e-30, 1e-22, 1.0, 1e22, 1e30])
def test_unit_norm_of_any_size(backend, size):
    weight = torch.tensor([[3.0, -4.0], [0.0, 0.0]]) * size
    x = torch.zeros(1, 2)
    hebbian_linear_step_(x, weight, rule="oja", lr=0.1, unit_norm=True, backend=backend)
    norm = 5 * size
    want = torch.tensor([[3.0, -4.0], [0.0, 0.0]], dtype=torch.float64) * size / (norm + 1e-30)
    assert_close(weight, want, TOLERANCES["float32_delta_w"])


def test_only_real_weights_have_rates():
    for weight in (torch.randn(3, 5, dtype=torch.complex64), torch.ones(3, 5, dtype=torch.int64)):
        with pytest.raises(TypeError, match="weight must be a floating point tensor"):
            norm_dependent_rate(weight, 0.1)
    with pytest.raises(TypeError, match="delta_w must be a floating point tensor"):
        hebbian_step_(torch.randn(3, 5), torch.randn(3, 5, dtype=torch.complex64), 0.1)


@pytest.mark.parametrize(
    ("options", "name"), [({"value": 1e30}, "value"), ({"radius": 1e9}, "radius")]
)
def test_a_constant_that_the_dtype_does_not_have(options, name):
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        init.constant_(torch.empty(3, 5, dtype=torch.float16), **options)


@pytest.mark.skipif(backends.why_not("cpp", "cpu") is not None, reason="not built")
@pytest.mark.parametrize("layout", ["sliced", "expanded", "negated"])
def test_a_bias_may_be_any_view(layout):
    x, weight, bias = torch.randn(4, 5), torch.randn(3, 5), torch.randn(3)
    view = {
        "sliced": torch.stack([bias, bias + 1], dim=1)[:, 0],
        "expanded": bias[:1].expand(3),
        "negated": torch._neg_view(-bias),
    }[layout]
    found = functional.softhebb_linear(x, weight, view, backend="cpp")
    want = functional.softhebb_linear(x, weight, view.clone(), backend="cpp")
    assert torch.equal(found.u, want.u)
    assert torch.equal(found.delta_b, want.delta_b)


@pytest.mark.parametrize("name", [n for n in functional.__all__ if n.startswith("hebbian_")])
def test_what_is_no_tensor_is_refused_by_name(name):
    if name in ("hebbian_step_", "hebbian_update"):
        return
    options = {"lr": 0.1} if name.endswith("_step_") else {}
    options |= {"epilogue": functional.Epilogue()} if name == "hebbian_block" else {}
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor; got list"):
        getattr(functional, name)([1.0], torch.randn(3, 5), **options)
