from __future__ import annotations

import pytest
import torch
from torch import nn

from softhebb_fast import RePU, SplitTriangle, TopShare, Triangle
from softhebb_fast.nn import Softmax
from tests.tolerances import TOLERANCES, assert_close

POWERS = (0.5, 0.7, 1.0, 1.4, 2.0)
SHAPES = ((4, 6), (2, 6, 5), (2, 6, 3, 4))


def randn(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_triangle_by_hand():
    u = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    assert Triangle()(u).tolist() == [[0, 0, 3], [0, 0, 0]]
    assert Triangle(2.0)(u).tolist() == [[0, 0, 9], [0, 0, 0]]
    assert Triangle(0.5)(u)[0, 2].item() == pytest.approx(3**0.5)


def test_triangle_of_groups_by_hand():
    u = torch.tensor([[1.0, 3.0, 10.0, 20.0]])
    assert Triangle(groups=2)(u).tolist() == [[0, 1, 0, 5]]
    assert Triangle(2.0, groups=2)(u[0]).tolist() == [0, 1, 0, 25]
    assert repr(Triangle(groups=2)) == "Triangle(power=1.0, groups=2)"


@pytest.mark.parametrize("kind", [Triangle, SplitTriangle])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_groups_of_a_triangle_are_triangles(shape, kind):
    u = randn(*shape)
    parts = torch.cat([kind(0.7)(part) for part in u.chunk(2, dim=1)], dim=1)
    assert_close(kind(0.7, groups=2)(u), parts, TOLERANCES["float64"])
    traced = torch.fx.symbolic_trace(kind(0.7, groups=2))
    assert torch.equal(traced(u), kind(0.7, groups=2)(u))


@pytest.mark.parametrize("kind", [Triangle, SplitTriangle])
def test_groups_that_do_not_fit_are_refused(kind):
    with pytest.raises(ValueError, match="groups must be at least 1"):
        kind(groups=0)
    with pytest.raises(ValueError, match="groups must divide the channels of u, 6; got 4"):
        kind(groups=4)(randn(2, 6, 3, 3))


def test_split_triangle_by_hand():
    u = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    assert SplitTriangle()(u).tolist() == [[0, 0, 3, 2, 1, 0], [0, 0, 0, 0, 0, 0]]
    assert SplitTriangle(2.0)(u[0]).tolist() == [0, 0, 9, 4, 1, 0]
    both = SplitTriangle(groups=2)
    assert both(torch.tensor([[1.0, 3.0, 10.0, 20.0]])).tolist() == [[0, 1, 1, 0, 0, 5, 5, 0]]
    assert repr(both) == "SplitTriangle(power=1.0, groups=2)"


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_sides_of_a_split_triangle_are_triangles(shape, power):
    u = randn(*shape)
    above, below = SplitTriangle(power)(u).chunk(2, dim=1)
    assert_close(above, Triangle(power)(u), TOLERANCES["float64"])
    assert_close(below, Triangle(power)(-u), TOLERANCES["float64"])


def test_repu_by_hand():
    u = torch.tensor([[-1.0, 0.0, 4.0]])
    assert RePU()(u).tolist() == [[0, 0, 4]]
    assert RePU(2.0)(u).tolist() == [[0, 0, 16]]
    assert RePU(0.5)(u).tolist() == [[0, 0, 2]]


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_powers_follow_the_formulas_in_every_shape(shape, power):
    u = randn(*shape)
    above = u - u.sum(dim=1, keepdim=True) / 6
    triangle = torch.where(above > 0, above.abs() ** power, 0.0)
    assert_close(Triangle(power)(u), triangle, TOLERANCES["float64"])
    repu = torch.where(u > 0, u.abs() ** power, 0.0)
    assert_close(RePU(power)(u), repu, TOLERANCES["float64"])
    single = Triangle(power)(u.float())
    assert single.dtype == torch.float32
    assert_close(single, triangle, TOLERANCES["float32_u"])


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("split", [False, True], ids=["", "split"])
def test_the_mean_is_a_constant_to_autograd(power, split):
    u = randn(3, 6, 2, 2).requires_grad_()
    (SplitTriangle if split else Triangle)(power)(u).sum().backward()
    above = (u - u.mean(dim=1, keepdim=True)).detach()
    slope = power * above.abs() ** (power - 1)
    expected = torch.where(above > 0, slope, -slope if split else 0.0)
    assert_close(u.grad, expected, TOLERANCES["float64"])


@pytest.mark.parametrize("activation", [Triangle, RePU])
def test_no_gradient_is_nan_where_the_output_is_zero(activation):
    u = torch.tensor([[0.0, 0.0], [-1.0, 1.0]], requires_grad=True)
    activation(0.7)(u).sum().backward()
    assert u.grad.flatten().tolist() == pytest.approx([0, 0, 0, 0.7])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_is_over_the_channels(shape):
    u = randn(*shape)
    e = (3.0 * u).exp()
    assert_close(Softmax(3.0)(u), e / e.sum(dim=1, keepdim=True), TOLERANCES["float64"])


def test_the_input_stays_as_it_is_and_nothing_is_learned():
    u = randn(2, 6)
    before = u.clone()
    for activation in (Triangle(1.4), Triangle(), SplitTriangle(), RePU(2.0), RePU(), Softmax()):
        activation(u)
        assert list(activation.state_dict()) == []
    assert torch.equal(u, before)


def test_representations():
    net = nn.Sequential(Triangle(0.7), RePU(2.0), Softmax(12.0))
    shown = "(0): Triangle(power=0.7)\n  (1): RePU(power=2.0)\n  (2): Softmax(t_invert=12.0)"
    assert shown in repr(net)


@pytest.mark.parametrize("activation", [Triangle, RePU, Softmax])
@pytest.mark.parametrize("value", [0, -0.7, float("nan"), float("inf")])
def test_the_parameter_must_be_positive(activation, value):
    with pytest.raises(ValueError, match=rf"must be positive and finite; got {value}"):
        activation(value)


def top_share(u: torch.Tensor, share: float) -> torch.Tensor:
    """The definition, position by position."""
    rows = u.movedim(1, -1).reshape(-1, u.shape[1]).tolist()
    kept = min(max(round(share * u.shape[1]), 1), u.shape[1] - 1)
    found = []
    for row in rows:
        threshold = sorted(row, reverse=True)[kept]
        found.append([value - threshold if value > threshold else 0.0 for value in row])
    shape = (u.shape[0], *u.shape[2:], u.shape[1])
    return torch.tensor(found, dtype=u.dtype).view(shape).movedim(-1, 1)


def test_top_share_by_hand():
    u = torch.tensor([[1.0, 5.0, 3.0, 4.0, 2.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    assert TopShare(0.4)(u).tolist() == [[0, 2, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert TopShare(0.001)(u)[0].tolist() == [0, 1, 0, 0, 0]
    assert TopShare(0.999)(u)[0].tolist() == [0, 4, 2, 3, 1]
    tied = torch.tensor([[3.0, 1.0, 3.0, 3.0, 0.0]])
    assert TopShare(0.4)(tied).tolist() == [[0, 0, 0, 0, 0]]
    assert TopShare(0.6)(tied).tolist() == [[2, 0, 2, 2, 0]]
    assert torch.equal(TopShare(0.4)(u[0]), TopShare(0.4)(u)[0])


@pytest.mark.parametrize("share", [0.01, 0.25, 0.4, 0.99])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
def test_top_share_follows_its_definition_in_every_shape(shape, share, ties):
    u = randn(*shape)
    u = u.mul(2).round() if ties else u
    for x in (u, u.float(), u.transpose(0, -1).contiguous().transpose(0, -1)):
        assert torch.equal(TopShare(share)(x), top_share(x, share))
    active = (TopShare(share)(u) > 0).sum(dim=1)
    most = min(max(round(share * 6), 1), 5)
    assert (active == most).all() or (ties and (active <= most).all())


def test_the_threshold_is_a_constant_to_autograd():
    u = randn(3, 6, 2, 2).requires_grad_()
    TopShare(0.4)(u).sum().backward()
    assert torch.equal(u.grad, (top_share(u.detach(), 0.4) > 0).double())


def test_bad_shares():
    for share in (0, 1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="share must lie between 0 and 1"):
            TopShare(share)
    with pytest.raises(TypeError, match=r"share must be a number; got '0\.4'"):
        TopShare("0.4")
    with pytest.raises(ValueError, match=r"u must have at least 2 channels; got \(3, 1\)"):
        TopShare()(torch.zeros(3, 1))


@pytest.mark.parametrize(
    "module", [Triangle(0.7), SplitTriangle(0.7), RePU(1.4), Softmax(2.0), TopShare(0.4)]
)
def test_activations_are_traced_symbolically(module):
    u = randn(2, 6, 3, 4)
    traced = torch.fx.symbolic_trace(module)
    assert torch.equal(traced(u), module(u))
    assert torch.equal(traced(u[:, :3]), module(u[:, :3]))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_largest_units_can_be_traced():
    u = randn(2, 10, 4, 4)
    traced = torch.jit.trace(TopShare(), u)
    assert torch.equal(traced(2 * u), TopShare()(2 * u))
