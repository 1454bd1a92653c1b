"""Dropout by random bits."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast import extension
from softhebb_fast.nn import Dropout, dropout
from tests.cpp.native import assert_same_bits

TOL = 5e-3  # five standard deviations of the mean of 200,000 coins


@pytest.fixture(params=["native", "plain"], autouse=True)
def way(request, monkeypatch):
    """Both ways to draw a mask."""
    if request.param == "plain":
        monkeypatch.setattr(dropout, "NATIVE", False)
    elif not dropout.NATIVE:
        pytest.skip("the extension was not built")
    return request.param


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


def native_only(way):
    if way != "native":
        pytest.skip("of the native operator")


def test_the_generator_is_threefry(way):
    """Its published answer to counter 0 and key 0 is 6b200159 99ba4efe; 16 lanes lie between."""
    native_only(way)
    bits = {0: 0x0159, 1: 0x6B20, 32: 0x4EFE, 33: 0x99BA}
    for place, value in bits.items():
        for dropped, kept in ((value, True), (value + 1, False)):
            y = extension.call.dropout(torch.ones(64), dropped / 65536, 0)
            assert bool(y[place] > 0) == kept


@pytest.mark.parametrize("size", [1, 63, 64, 65, 10_000])
def test_an_element_is_kept_by_its_place_alone(way, size):
    native_only(way)
    whole = extension.call.dropout(torch.ones(10_000), 0.5, -5)
    assert torch.equal(extension.call.dropout(torch.ones(size), 0.5, -5), whole[:size])
    wide = extension.call.dropout(torch.ones(size, dtype=torch.float64), 0.5, -5)
    assert torch.equal(wide, whole[:size].double())
    assert not torch.equal(extension.call.dropout(torch.ones(10_000), 0.5, -4), whole)


def test_the_number_of_threads_changes_nothing(way):
    x = torch.randn(50_000)

    def dropped() -> tuple:
        torch.manual_seed(0)
        return (Dropout(0.3)(x),)

    assert_same_bits(dropped, (1, 3))


def test_the_operator_keeps_its_promises(way):
    native_only(way)
    x = torch.randn(5, 30, requires_grad=True)
    torch.library.opcheck(extension.call.dropout.default, (x, 0.5, 3))
    for p, x, words in (
        (1.5, torch.ones(2), "p must lie in"),
        (0.5, torch.ones(2).half(), "float32 or"),
    ):
        with pytest.raises(RuntimeError, match=words):
            extension.call.dropout(x, p, 0)
