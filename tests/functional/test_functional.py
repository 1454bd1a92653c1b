"""The public functions: memory layouts, their parts, rates, statistics, autocast, compilation."""

from __future__ import annotations

import math

import pytest
import torch

from softhebb_fast import functional
from softhebb_fast.functional import (
    competition_statistics,
    hebbian_step_,
    hebbian_update,
    norm_dependent_rate,
    soft_wta,
    softhebb_conv2d,
    softhebb_linear,
)
from softhebb_fast.kinds import WTA
from tests import oracle
from tests.tolerances import TOLERANCES, assert_close, assert_outputs_close, literal

LN3 = math.log(3)

# Layouts


def sliced(t: torch.Tensor) -> torch.Tensor:
    """The same values inside a larger tensor of NaN."""
    larger = t.new_full([n + 2 for n in t.shape], float("nan"))
    view = larger[tuple(slice(1, n + 1) for n in t.shape)]
    view.copy_(t)
    return view


def transposed(t: torch.Tensor) -> torch.Tensor:
    return t.transpose(0, -1).contiguous().transpose(0, -1)


def channels_last(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous(memory_format=torch.channels_last)


def expanded_batch(t: torch.Tensor) -> torch.Tensor:
    return t[:1].expand_as(t)


@pytest.mark.parametrize("layout", [sliced, transposed, channels_last])
@pytest.mark.parametrize("groups", [1, 2])
def test_layouts_of_memory_do_not_matter(layout, groups, device):
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64, device=device)
    weight = torch.randn(6, 4 // groups, 3, 2, dtype=torch.float64, device=device)
    options = {"groups": groups, "padding": 1, "stride": (1, 2)}
    expected = softhebb_conv2d(x, weight, **options)
    out = softhebb_conv2d(layout(x), layout(weight), **options)
    assert not layout(x).is_contiguous()
    assert_outputs_close(out, expected)


@pytest.mark.parametrize("layout", [sliced, transposed])
def test_layouts_of_memory_do_not_matter_to_linear_layers(layout, device):
    x, weight = (torch.randn(n, 9, dtype=torch.float64, device=device) for n in (5, 4))
    bias = torch.randn(4, dtype=torch.float64, device=device)
    out = softhebb_linear(layout(x), layout(weight), sliced(bias))
    assert_outputs_close(out, softhebb_linear(x, weight, bias))


def test_an_expanded_batch_is_a_batch_of_copies(device):
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64, device=device)
    weight = torch.randn(4, 2, 3, 3, dtype=torch.float64, device=device)
    view = expanded_batch(x)
    assert_outputs_close(softhebb_conv2d(view, weight), softhebb_conv2d(view.clone(), weight))


def test_linear_takes_any_leading_dimensions(device):
    x, weight = torch.randn(2, 3, 5, 9, device=device), torch.randn(4, 9, device=device)
    out, flat = softhebb_linear(x, weight), softhebb_linear(x.view(30, 9), weight)
    assert out.u.shape == (2, 3, 5, 4)
    assert torch.equal(out.u.view(30, 4), flat.u)
    assert torch.equal(out.delta_w, flat.delta_w)


def test_inputs_are_left_as_they_were(device):
    x, weight = torch.randn(2, 4, 6, 6, device=device), torch.randn(6, 4, 3, 3, device=device)
    before = x.clone(), weight.clone()
    softhebb_conv2d(x, weight, padding=1, pre_triangle=True)
    assert torch.equal(x, before[0])
    assert torch.equal(weight, before[1])


def test_the_same_call_gives_the_same_bits(device):
    x, weight = torch.randn(8, 3, 16, 16, device=device), torch.randn(33, 3, 5, 5, device=device)
    first, second = (softhebb_conv2d(x, weight, padding=2) for _ in range(2))
    assert torch.equal(first.u, second.u)
    assert torch.equal(first.delta_w, second.delta_w)


# The parts


def test_hebbian_update_with_targets_is_the_supervised_rule():
    x = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    weight = torch.tensor([[0.5, 0.0], [0.0, 0.5]])
    u, targets = x @ weight.t(), torch.eye(2)  # u = diag(1, 2): D = diag(2 - 1/2, 4 - 2 / 2)
    assert hebbian_update(x, targets, u, weight).tolist() == [[0.5, 0], [0, 1]]
    # swapped, each neuron has u = 0 where it is to win, so D is the other's input
    swapped = hebbian_update(x, targets.flip(0), u, weight)
    assert swapped.tolist() == [[0, 1], [0.5, 0]]


@pytest.mark.parametrize("mode", ["reflect", "zeros", "replicate", "circular"])
def test_the_parts_make_the_whole(mode, device):
    x = torch.randn(3, 4, 8, 7, dtype=torch.float64, device=device)
    weight = torch.randn(6, 2, 3, 3, dtype=torch.float64, device=device)
    geometry = {"stride": 2, "padding": 2, "dilation": (1, 2), "groups": 2, "padding_mode": mode}
    out = softhebb_conv2d(x, weight, wta="hard_anti", rank=2, delta=0.5, **geometry)
    y = soft_wta(out.u, wta="hard_anti", rank=2, delta=0.5, groups=2)
    delta_w = hebbian_update(x, y, out.u, weight, **geometry)
    assert_close(delta_w, out.delta_w, TOLERANCES["float64"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_parts_sum_16_bit_inputs_in_float32(dtype):
    u = torch.tensor([[6000.0, 5990.0]], dtype=dtype)  # 12 u would overflow float16
    assert soft_wta(u, wta="soft").tolist() == [[1, 0]]
    x, y, w = (torch.randn(n, 8).to(dtype) for n in (300, 300, 8))
    u = (x.float() @ w.float().t()).to(dtype)
    exact = hebbian_update(x.float(), y.float(), u.float(), w.float())
    assert torch.equal(hebbian_update(x, y, u, w), exact.to(dtype))
    assert competition_statistics(u).share.dtype == torch.float32


# Rates and steps


@pytest.mark.parametrize(
    ("filters", "lr", "power", "lebesgue_p", "expected"),
    [
        ([[3.0, 4.0], [0.0, 0.0], [0.6, 0.4]], 0.1, 0.5, 2.0, [0.2, 0.1, 0.1 * 0.2788897**0.5]),
        ([[3.0, 4.0]], -0.08, 0.5, 2.0, [-0.16]),
        ([[1.0, 0.0]], 2.0, 0.5, 2.0, [2e-5]),
        ([[0.0, -1.0]], 2.0, 0.3, 2.0, [2e-3]),
        ([[1.0, 0.0]], 2.0, 0.1, 2.0, [0.2]),
        ([[1.0, -1.0]], 1.0, 1.0, 3.0, [2 ** (1 / 3) - 1]),
        ([[2.0, -3.0]], 1.0, 1.0, 1.0, [4.0]),
    ],
)
def test_norm_dependent_rate(filters, lr, power, lebesgue_p, expected):
    weight = torch.tensor(filters)
    rate = norm_dependent_rate(weight, lr, power, lebesgue_p)
    assert rate.tolist() == literal(expected)
    assert torch.equal(norm_dependent_rate(weight.view(-1, 1, 1, 2), lr, power, lebesgue_p), rate)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_hebbian_step_moves_in_place_by_the_rate_before_the_step(dtype):
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=dtype))
    delta_w = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=dtype)
    assert hebbian_step_(weight, delta_w, lr=0.25) is weight
    expected = torch.tensor([[3.5, 3.5], [1 + 2.5e-6, 2.5e-6]])
    assert_close(
        weight, expected, TOLERANCES["bfloat16" if dtype == torch.bfloat16 else "float32_u"]
    )


# Statistics


@pytest.mark.parametrize(
    ("wta", "share", "winner"),
    [
        ("soft_anti", [5 / 12, 7 / 12, 1 / 2, 1 / 2], (3 / 4 + 1 / 2) / 2),
        ("soft", [5 / 12, 7 / 12, 1 / 2, 1 / 2], (3 / 4 + 1 / 2) / 2),
        ("hard", [1 / 3, 2 / 3, 1, 0], 1),
        ("hard_anti", [1 / 3, 2 / 3, 1, 0], 1),
    ],
)
def test_competition_statistics(wta, share, winner):
    u = torch.tensor([[1.0, 0, 7, 7], [-1, 0, 7, 7], [-1, 0, 7, 7]])  # the second group ties
    statistics = competition_statistics(u, LN3, wta, groups=2)
    assert statistics.share.tolist() == literal(share)
    assert statistics.winner_probability == literal(winner)
    one_sample = competition_statistics(u.t()[None], LN3, wta, groups=2)
    assert one_sample.share.tolist() == literal(share)
    assert one_sample.winner_probability == literal(winner)


def test_statistics_of_no_position_are_nan():
    statistics = competition_statistics(torch.zeros(0, 3))
    assert statistics.share.isnan().all()
    assert math.isnan(statistics.winner_probability)


# Autocast and torch.compile


@pytest.mark.parametrize("name", ["conv", "linear"])
def test_autocast_changes_nothing(name, device):
    function = softhebb_conv2d if name == "conv" else softhebb_linear
    shapes = ((4, 3, 8, 8), (5, 3, 3, 3)) if name == "conv" else ((4, 9), (5, 9))
    x, weight = (torch.randn(shape, device=device) for shape in shapes)
    expected = function(x, weight)
    update = hebbian_update(x, soft_wta(expected.u), expected.u, weight)
    with torch.autocast(device.type, torch.bfloat16):
        out = function(x, weight)
        assert torch.equal(hebbian_update(x, soft_wta(out.u), out.u, weight), update)
    assert torch.equal(out.u, expected.u)
    assert torch.equal(out.delta_w, expected.delta_w)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("wta", WTA)
def test_conv2d_compiles_as_one_graph(wta, backend, device):
    options = {"wta": wta, "padding": 1, "stride": 2, "groups": 2, "backend": backend}

    def step(x, weight, bias):
        out = softhebb_conv2d(x, weight, bias, **options)
        return *out, hebbian_step_(weight.clone(), out.delta_w, 0.1)

    x = torch.randn(3, 4, 8, 8, dtype=torch.float64, device=device)
    weight = torch.randn(6, 2, 3, 3, dtype=torch.float64, device=device)
    bias = torch.zeros(6, dtype=torch.float64, device=device)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    u, delta_w, delta_b, stepped = compiled(x, weight, bias)
    expected = step(x, weight, bias)
    assert_outputs_close(
        functional.SoftHebbOutput(u, delta_w, delta_b), functional.SoftHebbOutput(*expected[:3])
    )
    assert_close(stepped, expected[3], TOLERANCES["float64"])


def test_linear_compiles_as_one_graph(device):
    x, weight = torch.randn(2, 5, 9, device=device), torch.randn(4, 9, device=device)
    compiled = torch.compile(softhebb_linear, fullgraph=True, backend="aot_eager")
    assert_outputs_close(
        compiled(x, weight, backend="reference"), oracle_of_linear(x.flatten(0, 1), weight)
    )


def oracle_of_linear(x: torch.Tensor, weight: torch.Tensor) -> oracle.Oracle:
    o = oracle.linear(x, weight)
    return o._replace(u=o.u.view(2, 5, 4))


def test_meta_tensors_give_shapes():
    x, weight, bias = (torch.empty(s, device="meta") for s in ((2, 4, 6, 6), (6, 4, 3, 3), (6,)))
    out = softhebb_conv2d(x, weight, bias, padding=1)
    assert (out.u.shape, out.delta_w.shape) == ((2, 6, 6, 6), (6, 4, 3, 3))
    assert out.u.device.type == "meta"
