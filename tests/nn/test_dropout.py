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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("p", [0.99999, 0.999999])
def test_a_probability_near_1_gives_zeros_and_no_nan(dtype, p):
    y = Dropout(p)(torch.full((500,), 1e-3, dtype=dtype))
    assert y.isfinite().all()
    assert (y == 0).double().mean() > 0.9


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_x_stays_as_it_is(p):
    x = torch.ones(9)
    Dropout(p, inplace=True)(x)
    assert (x == 1).all()


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan"), "1", None, 1j])
def test_refuses_what_is_no_probability(p):
    with pytest.raises((TypeError, ValueError), match=r"^p must"):
        Dropout(p)


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


ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)


def threefry(counter: tuple[int, int], key: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011, algorithm of section 4.2)."""
    mask, keys = 0xFFFFFFFF, (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    a, b = (counter[0] + keys[0]) & mask, (counter[1] + keys[1]) & mask
    for four in range(1, 6):
        for r in ROTATIONS[(four - 1) % 2]:
            a = (a + b) & mask
            b = ((b << r | b >> 32 - r) & mask) ^ a
        a = (a + keys[four % 3]) & mask
        b = (b + keys[(four + 1) % 3] + four) & mask
    return a, b


def test_seeds_of_any_size_are_keys_of_threefry(way):
    """The definition here gives the published answers to other counters and keys."""
    native_only(way)
    assert threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)
    assert threefry((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2) == (0x1CB996FC, 0xBB002BE7)
    pi = (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344)
    assert threefry(*pi) == (0xC4923A9C, 0x483DF7A0)
    for seed in (1, 2**32, 2**63 - 1, 0x0370734413198A2E):
        own = []
        for block in range(8):
            lanes = [
                threefry((16 * block + lane, 0), (seed & 0xFFFFFFFF, seed >> 32))
                for lane in range(16)
            ]
            for word in (0, 1):
                own += [half for lane in lanes for half in (lane[word] & 0xFFFF, lane[word] >> 16)]
        y = extension.call.dropout(torch.ones(len(own)), 0.5, seed)
        assert torch.equal(y > 0, torch.tensor(own) >= 1 << 15), seed


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
