"""The executable definition against two oracles in float64 and against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings

from softhebb_fast import functional
from softhebb_fast.kinds import WTA
from tests import oracle, strategies
from tests.by_keyword import reference
from tests.tolerances import (
    TOLERANCES,
    assert_close,
    assert_outputs_close,
    boundary_band,
    clear_of_band,
    literal,
)

LN3 = math.log(3)
# one channel; a pixel of 2 and filters 0.5 and 0 give u = (1, 0), softmax (3/4, 1/4) at t = ln 3
X = torch.tensor([2.0]).view(1, 1, 1, 1)
W = torch.tensor([0.5, 0.0]).view(2, 1, 1, 1)

conv2d = functional.softhebb_conv2d
linear = functional.softhebb_linear


def randn(*shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


# Against the oracles


@given(case=strategies.conv_cases())
def test_conv2d_agrees_with_the_oracle(case, device):
    expected = oracle.conv2d(*case.tensors(), **case.options)
    assume(expected.condition < 1e3)
    out = conv2d(*case.tensors(device=device), **case.options, backend="reference")
    assert out.u.dtype == out.delta_w.dtype == torch.float64
    assert_outputs_close(out, expected)


@given(case=strategies.linear_cases())
def test_linear_agrees_with_the_oracle(case, device):
    expected = oracle.linear(*case.tensors(), **case.options)
    assume(expected.condition < 1e3)
    out = linear(*case.tensors(device=device), **case.options, backend="reference")
    assert_outputs_close(out, expected)


@given(case=strategies.conv_cases())
@settings(max_examples=60)
def test_the_update_is_the_gradient_of_a_surrogate_loss(case):
    x, weight, bias = case.tensors()
    o = oracle.conv2d(x, weight, bias, **case.options)
    assume(o.condition < 1e3)
    groups = case.options["groups"]
    gradient = oracle.surrogate_gradient(o.patches, o.y, o.u, weight, groups)
    assert_close(gradient, o.d, TOLERANCES["float64"])
    largest = gradient.view(groups, -1).abs().amax(dim=1).repeat_interleave(len(weight) // groups)
    out = reference.conv2d(x, weight, bias, **case.options)
    assert_close(out.delta_w, gradient / (largest.view(-1, 1, 1, 1) + 1e-30), TOLERANCES["float64"])


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize(
    ("x_shape", "w_shape"), [((8, 3, 16, 16), (96, 3, 5, 5)), ((4, 40, 8, 8), (50, 40, 3, 3))]
)
def test_float32_stays_near_the_oracle(wta, x_shape, w_shape, device):
    x, weight = randn(*x_shape), randn(*w_shape, seed=1) / math.sqrt(math.prod(w_shape[1:]))
    x = clear_of_band(x, oracle.conv2d(x, weight, wta=wta).u, rank=3 if wta == "hard_anti" else 1)
    assert len(x) >= 2
    out = conv2d(x.to(device), weight.to(device), wta=wta, backend="reference")
    assert_outputs_close(out, oracle.conv2d(x, weight, wta=wta))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wta", WTA)
def test_16_bit_inputs_are_summed_in_float32(wta, dtype, device):
    x, weight, bias = (
        t.to(device, dtype)
        for t in (randn(4, 8, 9, 9), randn(12, 8, 3, 3, seed=1) / 9, randn(12, seed=2) / 9)
    )
    out = conv2d(x, weight, bias, wta=wta, backend="reference")
    exact = conv2d(x.float(), weight.float(), bias.float(), wta=wta, backend="reference")
    assert out.u.dtype == out.delta_w.dtype == dtype
    assert torch.equal(out.u, exact.u.to(dtype))
    assert torch.equal(out.delta_w, exact.delta_w.to(dtype))
    if exact.delta_b is not None:
        assert torch.equal(out.delta_b, exact.delta_b.to(dtype))


def test_boundary_band_marks_near_ties_of_any_group():
    u = torch.tensor([[1.0, 0.0, 5.0, 4.0], [1.0, 1 - 1e-7, 5.0, 4.0], [1.0, 0.0, 4.0, 4.0]])
    assert boundary_band(u).tolist() == [False, False, True]
    assert boundary_band(u, groups=2).tolist() == [False, True, True]
    assert boundary_band(u, rank=3).tolist() == [False, True, True]
    assert clear_of_band(torch.arange(3), u, groups=2).tolist() == [0]


# The competition by hand


@pytest.mark.parametrize(
    ("wta", "delta", "rank", "y", "direction"),
    [
        ("soft", 2.0, 3, [0.75, 0.25], [1, 4 / 9]),  # D = (1.5 - 0.375, 0.5)
        ("soft_anti", 2.0, 3, [0.75, -0.25], [1, -4 / 9]),
        ("hard", 2.0, 3, [1, 0], [1, 0]),
        ("hard_anti", 2.0, 2, [1, -2], [0.375, -1]),  # D = (2 - 0.5, -4)
        ("hard_anti", 0.5, 1, [0.5, 0], [1, 0]),
        ("hard_anti", 2.0, 1, [-1, 0], [-1, 0]),
    ],
)
def test_one_pixel_and_two_neurons(wta, delta, rank, y, direction):
    rank = min(rank, 2)
    out = conv2d(X, W, t_invert=LN3, wta=wta, delta=delta, rank=rank)
    assert out.u.flatten().tolist() == [1, 0]
    assert functional.soft_wta(out.u, LN3, wta, delta=delta, rank=rank).flatten().tolist() == (
        literal(y)
    )
    assert out.delta_w.flatten().tolist() == literal(direction)
    assert out.delta_b is None


def test_positions_add_up_with_their_own_winners():
    x = torch.tensor([2.0, -2.0]).view(1, 1, 1, 2)  # y = (3/4, -1/4) and (-1/4, 3/4), D = (1.5, -2)
    out = conv2d(x, W, t_invert=LN3)
    assert out.u.flatten().tolist() == [1, -1, 0, 0]
    assert out.delta_w.flatten().tolist() == literal([0.75, -1])


@pytest.mark.parametrize(
    ("wta", "expected"),
    [
        ("soft", [1, 1]),
        ("soft_anti", [1, -1]),
        ("hard", [1, 0]),
        ("hard_anti", [0.5, -1]),
    ],
)
def test_exact_ties_go_to_the_first_neuron(wta, expected, device):
    weight = torch.full((2, 1, 1, 1), 0.5, device=device)
    out = conv2d(X.to(device), weight, wta=wta, rank=2, backend="reference")
    assert out.delta_w.flatten().tolist() == expected


def test_hard_anti_at_rank_1_subtracts_in_convolutions_and_overwrites_in_linear_layers():
    options = {"wta": "hard_anti", "delta": 0.5, "rank": 1}
    assert functional.soft_wta(torch.tensor([[1.0, 0.0]]), **options).tolist() == [[0.5, 0]]
    assert functional.soft_wta(torch.tensor([[1.0, 0.0]]), **options, overwrite=True).tolist() == [
        [-0.5, 0]
    ]
    assert conv2d(X, W, **options).delta_w.flatten().tolist() == [1, 0]
    assert linear(X.view(1, 1), W.view(2, 1), **options).delta_w.flatten().tolist() == [-1, 0]


def test_ranks_among_ties_count_from_the_first_neuron():
    y = functional.soft_wta(torch.tensor([[1.0, 2.0, 1.0, 2.0]]), wta="hard_anti", rank=3)
    assert y.tolist() == [[-2, 1, 0, 0]]
    y = functional.soft_wta(torch.zeros(1, 3000), wta="hard_anti", rank=2500)
    assert y.nonzero().tolist() == [[0, 0], [0, 2499]]


@pytest.mark.parametrize(
    ("wta", "bias", "expected"),
    [
        ("soft", 0.0, [-1 / 3, -1]),  # (3/4 - 1, 1/4 - 1)
        ("soft", -math.log(2) / LN3, [1, -1]),  # ((3/4 - 1/2) / (1/2), (1/4 - 1/2) / (1/2))
        ("soft_anti", -math.log(2) / LN3, [1 / 3, -1]),  # (1/2, -3/2)
    ],
)
def test_bias_rule(wta, bias, expected):
    bias = torch.full((2,), bias)
    out = conv2d(X, W, bias, t_invert=LN3, wta=wta)
    assert out.delta_b.tolist() == literal(expected)
    # twice the same position: sum y and n double together
    twice = linear(torch.full((2, 1), 2.0), W.view(2, 1), bias, t_invert=LN3, wta=wta)
    assert twice.delta_b.tolist() == literal(expected)


@pytest.mark.parametrize("wta", ["hard", "hard_anti"])
def test_hard_competitions_leave_the_bias_alone(wta):
    assert conv2d(X, W, torch.zeros(2), wta=wta, rank=1).delta_b is None


# Shapes and special values


def test_rows_left_over_by_the_stride_are_cropped(device):
    x, weight = randn(2, 3, 32, 32, dtype=torch.float64), randn(6, 3, 5, 5, dtype=torch.float64) / 9
    options = {"stride": (2, 2), "padding": (2, 2)}
    out = conv2d(x.to(device), weight.to(device), **options, backend="reference")
    assert out.u.shape == (2, 6, 16, 16)
    assert out.delta_w.shape == (6, 3, 5, 5)
    assert_outputs_close(out, oracle.conv2d(x, weight, **options))


def test_a_pixel_that_no_patch_covers_has_no_effect():
    x = randn(1, 1, 6, 6)
    x[..., 5, :] = x[..., :, 5] = math.nan
    assert conv2d(x, randn(2, 1, 3, 3), stride=2).delta_w.isfinite().all()


def test_each_group_is_normalised_by_its_own_maximum(device):
    x = randn(3, 4, 8, 8).to(device) * torch.tensor([1, 1, 100, 100], device=device).view(4, 1, 1)
    out = conv2d(x, randn(6, 2, 3, 3).to(device), groups=2, padding=1, backend="reference")
    assert out.delta_w.view(2, -1).abs().amax(dim=1).tolist() == [1, 1]


def test_groups_are_independent_layers():
    x, weight = randn(3, 4, 8, 8, dtype=torch.float64), randn(6, 2, 3, 3, dtype=torch.float64)
    whole = conv2d(x, weight, groups=2)
    parts = [conv2d(x[:, 2 * g : 2 * g + 2], weight[3 * g : 3 * g + 3]) for g in range(2)]
    assert_close(whole.u, torch.cat([p.u for p in parts], 1), TOLERANCES["float64"])
    assert_close(whole.delta_w, torch.cat([p.delta_w for p in parts]), TOLERANCES["float64"])


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_zero_input_gives_exactly_no_update(wta, dtype, device):
    x = torch.zeros(2, 3, 6, 6, dtype=dtype, device=device)
    weight = randn(4, 3, 3, 3, dtype=dtype).to(device)
    assert not conv2d(x, weight, wta=wta, backend="reference").delta_w.any()
    out = linear(x.flatten(1), weight.new_ones(4, 108), wta=wta, backend="reference")
    assert not out.delta_w.any()
    u = torch.zeros(2, 4, 4, 4, dtype=dtype, device=device)
    assert not functional.hebbian_update(x, u + 1, u, weight).any()


@pytest.mark.parametrize("wta", WTA)
def test_an_empty_batch_gives_zeros(wta, device):
    bias = torch.zeros(4, device=device)
    x, weight = torch.zeros(0, 3, 6, 6, device=device), torch.ones(4, 3, 3, 3, device=device)
    out = conv2d(x, weight, bias, wta=wta, padding=1, backend="reference")
    assert out.u.shape == (0, 4, 6, 6)
    assert torch.equal(out.delta_w, torch.zeros_like(weight))
    assert out.delta_b is None or torch.equal(out.delta_b, bias)
    out = linear(x.flatten(1), weight.new_ones(4, 108), wta=wta, backend="reference")
    assert out.u.shape == (0, 4)
    assert not out.delta_w.any()


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_inf_spoil_their_group_and_no_other(wta, value, device):
    x, weight = randn(2, 4, 6, 6).to(device), randn(6, 2, 3, 3, seed=1).to(device)
    clean = conv2d(x, weight, wta=wta, groups=2, backend="reference")
    x[0, 0, 0, 0] = value
    out = conv2d(x, weight, wta=wta, groups=2, backend="reference")
    seen = torch.zeros_like(out.u, dtype=torch.bool)
    seen[0, :3, 0, 0] = True
    assert torch.equal(~out.u.isfinite(), seen)
    assert out.delta_w[:3].isnan().all()
    assert torch.equal(out.delta_w[3:], clean.delta_w[3:])


def test_identical_filters_stay_identical_but_for_the_winner_of_the_tie(device):
    kernel = torch.zeros(5, 5)
    kernel[2, 2] = 0.3
    for neurons in (2, 17, 96):
        weight = kernel.expand(neurons, 1, 5, 5).contiguous().to(device)
        x = randn(10, 1, 14, 14).abs().to(device)
        out = conv2d(x, weight, padding=2, backend="reference")
        assert torch.equal(out.u, out.u[:, :1].expand_as(out.u))
        assert torch.equal(out.delta_w[1:], out.delta_w[1:2].expand_as(out.delta_w[1:]))
        assert torch.equal(out.delta_w[0], -out.delta_w[1])
        functional.hebbian_step_(weight, out.delta_w, lr=0.1)
        assert len(weight.unique(dim=0)) == 2


@pytest.mark.parametrize("mode", ["reflect", "zeros", "replicate", "circular"])
def test_conv1d_is_conv2d_on_one_row(mode):
    x, weight, bias = randn(3, 4, 11), randn(6, 2, 3), randn(6)
    options = {"groups": 2, "padding_mode": mode, "wta": "soft"}
    one = functional.softhebb_conv1d(x, weight, bias, stride=2, padding=2, dilation=2, **options)
    two = conv2d(
        x.unsqueeze(2),
        weight.unsqueeze(2),
        bias,
        stride=(1, 2),
        padding=(0, 2),
        dilation=(1, 2),
        **options,
    )
    assert one.u.shape == (3, 6, 6)
    assert torch.equal(one.u, two.u.squeeze(2))
    assert torch.equal(one.delta_w, two.delta_w.squeeze(2))
    assert torch.equal(one.delta_b, two.delta_b)


def test_lebesgue_weight():
    weight = torch.tensor([-2.0, 0.0, 3.0])
    assert reference.lebesgue_weight(weight, 2.0) is weight
    assert reference.lebesgue_weight(weight, 3.0).tolist() == [-4, 0, 9]
    assert reference.lebesgue_weight(weight, 1.0).tolist() == [-1, 0, 1]


# Derivatives


@pytest.mark.parametrize("groups", [1, 2])
def test_u_is_differentiable_as_a_convolution_is(groups, device):
    x, weight, bias = (
        t.to(device).requires_grad_()
        for t in (randn(2, 4, 7, 7), randn(6, 4 // groups, 3, 3), randn(6))
    )
    out = conv2d(x, weight, bias, stride=2, padding=1, groups=groups, backend="reference")
    padded = F.pad(x, (1, 1, 1, 1), "reflect")
    expected = F.conv2d(padded, weight, bias, 2, 0, 1, groups)
    seed = torch.randn_like(expected)
    actual = torch.autograd.grad(out.u, (x, weight, bias), seed)
    for a, e in zip(actual, torch.autograd.grad(expected, (x, weight, bias), seed), strict=True):
        assert torch.equal(a, e)
    assert not out.delta_w.requires_grad
    assert not out.delta_b.requires_grad
