"""A competition written in Python, in the place of those that kernels know."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.functional import soft_wta
from softhebb_fast.nn import Block, HebbianConv1d, HebbianConv2d, HebbianLinear, Triangle

LAYERS = {
    "conv": (HebbianConv2d, (2, 6, 3), (4, 2, 7, 7)),
    "groups": (HebbianConv2d, (4, 6, 3, 1, 1, 1, 2), (4, 4, 7, 7)),
    "sequence": (HebbianConv1d, (2, 6, 3), (4, 2, 9)),
    "linear": (HebbianLinear, (5, 6), (8, 5)),
}


def pair(name: str, **options):
    """A layer of SoftHebb, one with the same competition written as a function, and inputs."""
    kind, sizes, shape = LAYERS[name]
    groups = 2 if name == "groups" else 1

    def compete(u):
        return soft_wta(u, 3.0, groups=groups)

    made = []
    for rule in ("softhebb", compete):
        torch.manual_seed(0)
        made.append(kind(*sizes, t_invert=3.0, rule=rule, backend="reference", **options))
    return (*made, torch.randn(shape))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("update", ["grad", "in_place"])
def test_the_same_competition_learns_the_same(name, update):
    rate = {"lr": 0.1} if update == "in_place" else {}
    known, own, x = pair(name, update=update, **rate)
    for _ in range(3):
        torch.testing.assert_close(own(x), known(x))
    if update == "grad":
        torch.testing.assert_close(own.weight.grad, known.weight.grad)
    else:
        assert not torch.equal(own.weight, pair(name, update=update, **rate)[1].weight)
        torch.testing.assert_close(own.weight, known.weight)
    torch.testing.assert_close(own.hebbian_update(x).delta_w, known.hebbian_update(x).delta_w)


def test_one_of_ones_own_is_called_once_a_step_and_learns():
    calls = []

    def strongest_half(u):
        calls.append(tuple(u.shape))
        return torch.where(u >= u.median(dim=1, keepdim=True).values, u.softmax(dim=1), 0.0)

    layer = HebbianConv2d(1, 5, 3, rule=strongest_half, lr=0.1, update="in_place")
    before, x = layer.weight.clone(), torch.rand(2, 1, 6, 6)
    block = Block(layer, activation=Triangle())
    block(x)
    assert calls == [(2, 5, 4, 4)]
    assert not torch.equal(layer.weight, before)
    assert "rule='strongest_half'" in repr(layer)
    learned = layer.weight.clone()
    block.eval()(x)
    assert len(calls) == 1
    assert torch.equal(layer.weight, learned)


@pytest.mark.parametrize("backend", ["cpp", "triton"])
def test_kernels_are_refused_with_the_reason(backend):
    with pytest.raises(ValueError, match=rf"backend='{backend}': no kernel can call a competition"):
        HebbianConv2d(1, 5, 3, rule=torch.softmax, backend=backend)


def test_auto_is_the_reference():
    assert HebbianConv2d(1, 5, 3, rule=lambda u: u.softmax(1)).backend == "reference"


@pytest.mark.parametrize(
    ("competition", "error", "message"),
    [
        (lambda u: u.sum(1), ValueError, r"shape of u, \(2, 5, 4, 4\); got \(2, 4, 4\)"),
        (lambda u: u.tolist(), TypeError, "must return y, a tensor like u; got list"),
    ],
)
def test_what_is_no_activity_is_named(competition, error, message):
    layer = HebbianConv2d(1, 5, 3, rule=competition, lr=0.1, update="in_place")
    before = layer.weight.clone()
    with pytest.raises(error, match=message):
        layer(torch.rand(2, 1, 6, 6))
    assert torch.equal(layer.weight, before)


def test_a_target_beside_it_is_refused():
    layer = HebbianLinear(4, 3, rule=lambda u: u.softmax(1))
    with pytest.raises(ValueError, match="target must be None"):
        layer(torch.rand(2, 4), target=torch.tensor([0, 1]))
