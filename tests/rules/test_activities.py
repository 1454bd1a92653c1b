"""Activities by the native kernels: of many neurons that settle, of any rank, of one target."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from softhebb_fast import extension
from softhebb_fast.functional import hebbian_conv2d, hebbian_linear
from softhebb_fast.options import Competition, Rule
from softhebb_fast.reference import settle, soft_wta
from tests.tolerances import assert_close, tolerance

pytestmark = pytest.mark.skipif(extension.MISSING is not None, reason=str(extension.MISSING))


def activity(x: Tensor, weight: Tensor, rule: Rule, **options: object) -> Tensor:
    """A ``[P, K]`` of positions x: D of patches that are a unit each is A."""
    positions, size = x.shape
    weight = torch.nn.functional.pad(weight, (0, positions))
    inputs = torch.cat([x, torch.eye(positions, dtype=x.dtype)], dim=1)
    rule = rule._replace(gain="none", normalise="none")
    out = hebbian_linear(inputs, weight, rule=rule, backend="cpp", **options)
    return out.delta_w[:, size:].t()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("neurons", [8, 257, 400])
def test_a_system_that_cannot_be_solved_in_its_order(neurons, dtype):
    generator = torch.Generator().manual_seed(neurons)
    x, weight = (
        torch.randn(n, 20, generator=generator, dtype=torch.float64) for n in (300, neurons)
    )
    # I + M is a cyclic shift, and some more: 0 on its diagonal, far from singular
    lateral = torch.eye(neurons, dtype=torch.float64).roll(1, 0) * 3 - torch.eye(neurons)
    lateral += torch.randn(neurons, neurons, generator=generator).double() / (10 * neurons)
    lateral -= (lateral.diagonal() + 1).diag()
    x, weight, lateral = x.to(dtype), weight.to(dtype), lateral.to(dtype)
    exact = settle(x.double() @ weight.double().t(), lateral.double())
    own = activity(x, weight, Rule("lateral", lateral=lateral))
    assert_close(own, exact, tolerance(dtype, "delta_w"))


def test_a_singular_system_leaves_nothing_finite():
    x, weight = torch.randn(3, 5), torch.randn(300, 5)
    lateral = -torch.eye(300)
    assert not activity(x, weight, Rule("lateral", lateral=lateral)).isfinite().any()


RANKS = [1, 2, 3, 32, 33, 79, 80]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tie_rule", ["first", "spread"])
@pytest.mark.parametrize("rank", RANKS)
def test_ranks_among_ties(rank, tie_rule, dtype):
    generator = torch.Generator().manual_seed(rank)
    u = torch.randint(-3, 4, (100, 80), generator=generator).to(dtype)
    u[::3] *= -1.0  # zeros of both signs
    competition = Competition(wta="hard_anti", delta=0.5, rank=rank, tie_rule=tie_rule)
    options = competition._asdict()
    x, rule = torch.eye(100, dtype=dtype), Rule(gain="none", normalise="none")
    out = hebbian_linear(x, u.t().contiguous(), rule=rule, backend="cpp", **options)
    assert torch.equal(out.delta_w.t(), soft_wta(u, competition, overwrite=True))


@pytest.mark.parametrize("rank", RANKS)
def test_ranks_of_what_is_not_finite(rank):
    generator = torch.Generator().manual_seed(rank)
    competition = Competition(wta="hard_anti", delta=0.5, rank=rank)
    for bad in (("inf",), ("-inf",), ("nan",), ("inf", "-inf", "nan")):
        u = torch.randint(-3, 4, (1, 80), generator=generator).double()
        for i, value in enumerate(bad):
            u[0, [5 + i, 60 + i]] = float(value)
        # a handicap makes u: infinity times 0 is none
        rule, none = Rule(threshold=-u[0]), torch.zeros(80, 2, dtype=u.dtype)
        own = activity(none[:1], none, rule, **competition._asdict())
        assert torch.equal(own, soft_wta(u, competition, overwrite=True))


@pytest.mark.parametrize("rule", ["teacher", "delta_rule"])
@pytest.mark.parametrize("path", [(3, 8, 5), (40, 96, 3)])
def test_one_target_for_an_image_is_one_for_each_of_its_positions(rule, path):
    channels, neurons, side = path
    x, weight = torch.randn(4, channels, 9, 11), torch.randn(neurons, channels, side, side)
    classes = torch.tensor([0, 3, 7, 3])
    rows = torch.nn.functional.one_hot(classes, neurons).float()
    full = rows[:, :, None, None].repeat(1, 1, 10 - side, 12 - side)
    found = [
        hebbian_conv2d(x, weight, rule=rule, target=target, t_invert=0.1, backend="cpp")
        for target in (full, rows, classes)
    ]
    for other in found[1:]:
        assert torch.equal(other.delta_w, found[0].delta_w)
