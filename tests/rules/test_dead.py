"""Neurons that never win are found, and start again from inputs."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast import HebbianConv1d, HebbianConv2d, HebbianLinear, SoftHebbLinear
from softhebb_fast.nn import reseed_, wins


def test_wins_of_the_largest_u():
    layer = SoftHebbLinear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    x = torch.tensor([[3.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    assert wins(layer, x).tolist() == [2, 1, 0]
    assert layer.weight.grad is None


def test_wins_of_inputs_in_more_dimensions():
    layer = SoftHebbLinear(5, 3)
    x = torch.randn(4, 2, 5)
    assert torch.equal(wins(layer, x), wins(layer, x.view(8, 5)))


def test_wins_of_the_nearest_and_by_conscience():
    layer = HebbianLinear(2, 2, rule="kmeans", conscience=1.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[9.0, 0.0], [1.0, 0.0]]))
    x = torch.tensor([[2.0, 0.0]])
    assert wins(layer, x).tolist() == [0, 1]
    layer.shares.copy_(torch.tensor([-20.0, 21.0]))  # a handicap of 41 for the second
    assert wins(layer, x).tolist() == [1, 0]


@pytest.mark.parametrize("groups", [1, 2])
def test_wins_are_counted_in_groups(groups):
    layer = HebbianConv2d(2, 4, 3, groups=groups, padding=1, rule="instar", wta="hard")
    x = torch.randn(3, 2, 5, 5)
    found = wins(layer, x)
    assert found.view(groups, -1).sum(dim=1).tolist() == [75] * groups
    assert torch.equal(found.float(), layer.hebbian_update(x).statistic)
    assert wins(HebbianConv1d(2, 4, 3, rule="oja"), torch.randn(3, 2, 7)).sum() == 15


def test_kmeans_starts_again_at_patches_themselves():
    layer = HebbianConv2d(2, 6, 2, groups=2, rule="kmeans", update="in_place", lr=1.0)
    x = torch.randn(4, 2, 4, 4)
    layer(x)
    start, counts = layer.weight.detach().clone(), layer.counts.clone()
    dead = torch.tensor([False, True, False, True, True, False])
    reseed_(layer, x, dead, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer.weight[~dead], start[~dead])
    assert torch.equal(layer.counts, torch.where(dead, 0, counts))
    for neuron in dead.nonzero().flatten().tolist():
        own = torch.nn.functional.unfold(x[:, neuron // 3, None], 2).transpose(1, 2).flatten(0, 1)
        assert (own == layer.weight[neuron].flatten()).all(dim=1).any()
    assert not torch.equal(layer.weight[3], layer.weight[4])


def test_other_rules_take_the_norm_of_the_living():
    layer = HebbianLinear(5, 4, rule="oja", lebesgue_p=3.0)
    x = torch.randn(10, 5)
    norms = layer.norms()
    reseed_(layer, x, torch.tensor([2]))
    torch.testing.assert_close(layer.norms()[2], norms[[0, 1, 3]].mean())
    reseed_(layer, x, torch.tensor([0, 1, 2, 3]), norm=2.0)
    torch.testing.assert_close(layer.norms(), torch.full((4,), 2.0))


def test_lateral_weights_of_the_dead_are_cut():
    layer = HebbianLinear(5, 3, rule="similarity", radius=1.0)
    layer(torch.randn(20, 5))
    reseed_(layer, torch.randn(9, 5), torch.tensor([1]))
    assert not layer.lateral[1].any()
    assert not layer.lateral[:, 1].any()
    assert layer.lateral[0, 2] != 0


def test_what_does_not_fit_changes_nothing():
    layer, x = HebbianLinear(5, 4, rule="kmeans"), torch.randn(2, 5)
    start = layer.weight.detach().clone()
    with pytest.raises(ValueError, match="x must have 3 patches other than 0"):
        reseed_(layer, x, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"dead must be a mask \[4\]"):
        reseed_(layer, x, torch.tensor([True]))
    with pytest.raises(ValueError, match=r"dead must lie in 0..3"):
        reseed_(layer, x, torch.tensor([4]))
    assert torch.equal(reseed_(layer, x, torch.zeros(4, dtype=torch.bool)), start)
