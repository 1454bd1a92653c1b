"""Dropout by random bits."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.nn import Dropout

TOL = 5e-3  # five standard deviations of the mean of 200,000 coins


@pytest.mark.parametrize("p", [0.1, 0.4, 0.5, 0.9])
def test_drops_its_share_and_keeps_the_mean(p):
    y = Dropout(p)(torch.ones(200, 1001))
    assert abs((y == 0).double().mean().item() - p) < TOL
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-4)


def test_neighbours_are_independent():
    kept = (Dropout(0.5)(torch.ones(400_000)) > 0).double().view(-1, 4)
    assert (kept.mean(dim=0) - 0.5).abs().max() < TOL
    correlation = torch.corrcoef(kept.t()) - torch.eye(4)
    assert correlation.abs().max() < 2 * TOL


def test_follows_the_global_generator():
    x = torch.randn(7, 13)
    torch.manual_seed(3)
    first = Dropout()(x)
    torch.manual_seed(3)
    assert torch.equal(Dropout()(x), first)
    assert not torch.equal(Dropout()(x), first)


def test_gradient_is_the_mask():
    x = torch.randn(50, 3, requires_grad=True)
    y = Dropout()(x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 2.0))


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_ends_of_the_range(p, expected):
    assert (Dropout(p)(torch.ones(9)) == expected).all()


def test_evaluation_and_empty_batches():
    x = torch.randn(4, 5)
    assert Dropout().eval()(x) is x
    assert Dropout()(x[:0]).shape == (0, 5)
