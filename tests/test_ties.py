"""Exact ties: the first neuron wins, or the tied ones take turns by position."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast import SoftHebbConv2d, SoftHebbLinear, backends, init, reference
from softhebb_fast.functional import (
    competition_statistics,
    soft_wta,
    softhebb_conv2d,
    softhebb_conv2d_step_,
    softhebb_linear,
)
from softhebb_fast.kinds import TIE_RULES, WTA
from softhebb_fast.models import build
from softhebb_fast.nn import Block
from softhebb_fast.presets import get_preset
from softhebb_fast.training.metrics import layer_metrics

NAN = float("nan")
NATIVE = pytest.mark.skipif(backends.why_not("cpp", "cpu") is not None, reason="not built")


def twins(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return init.constant_(torch.empty(shape, dtype=dtype), radius=1.0)


def images(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def mixed(h: int) -> int:
    h = ((h ^ h >> 16) * 0x21F0AAAD) % 2**32
    h = ((h ^ h >> 15) * 0x735A2D97) % 2**32
    return h ^ h >> 15


def test_positions_are_hashed_by_their_index_in_the_batch():
    hashes = reference.position_hashes(torch.zeros(3, 5, 4, 7))
    assert hashes.shape == (3, 1, 4, 7)
    assert hashes.flatten().tolist() == [mixed(i) for i in range(84)]
    assert 0.4 < hashes.double().mean().item() / 2**32 < 0.6


def test_the_first_wins_unless_ties_are_spread():
    u = torch.tensor([[3.0, 3, 1], [0, 3, 3], [1, 2, 3], [NAN, 4, NAN]]).repeat(50, 1)
    first = reference.winners(u).squeeze(1)
    assert first.tolist() == [0, 1, 2, 0] * 50
    expected = [
        tied[mixed(position) % len(tied)]
        for position, tied in enumerate([[0, 1], [1, 2], [2], [0, 2]] * 50)
    ]
    assert reference.winners(u, "spread").squeeze(1).tolist() == expected
    assert set(expected) == {0, 1, 2}


@pytest.mark.parametrize("wta", ["soft_anti", "hard"])
def test_identical_neurons_share_their_wins_evenly(wta):
    u = torch.zeros(40, 8, 10, 10)
    wins = (soft_wta(u, 1.0, wta, tie_rule="spread") > 0).sum(dim=(0, 2, 3))
    assert wins.sum() == 4000
    assert wins.min() > 430
    assert (soft_wta(u, 1.0, wta) > 0).sum(dim=(0, 2, 3)).tolist() == [4000] + [0] * 7


def test_groups_spread_their_ties_alike():
    y = soft_wta(torch.zeros(5, 6, 3), 1.0, "hard", groups=2, tie_rule="spread")
    assert torch.equal(y[:, :3], y[:, 3:])


def test_the_winner_has_rank_one_whoever_it_is():
    y = soft_wta(torch.zeros(64, 3), 1.0, "hard_anti", delta=0.5, rank=2, tie_rule="spread")
    assert y.sum(dim=1).unique().tolist() == [0.5]
    assert (y == -0.5)[:, 2].sum() == 0  # the loser is the first neuron that did not win
    assert (y == 1).any(dim=0).all()
    one = soft_wta(torch.zeros(64, 3), 1.0, "hard_anti", delta=0.25, rank=1, tie_rule="spread")
    assert one.amax(dim=1).unique().tolist() == [0.75]


def test_without_ties_the_rules_agree_bit_for_bit():
    u = images(4, 7, 5, 5)
    for wta in WTA:
        assert torch.equal(soft_wta(u, 3.0, wta), soft_wta(u, 3.0, wta, tie_rule="spread"))


def test_statistics_follow_the_rule():
    u = torch.zeros(64, 4, 8, 8)
    assert competition_statistics(u, wta="hard").share.tolist() == [1, 0, 0, 0]
    shares = competition_statistics(u, wta="hard", tie_rule="spread").share
    assert shares.min() > 0.23
    layer = SoftHebbConv2d(1, 4, 1, init={"name": "constant", "value": 1.0}, tie_rule="spread")
    assert layer_metrics(Block(layer), torch.ones(64, 1, 8, 8))["winner_entropy"] > 1.99


@NATIVE
@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_native_winners_are_those_of_the_reference(wta, dtype, threads):
    """Twins of three kinds on whole numbers, of which every sum is exact: bit for bit."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(-2, 3, (5, 4, 9, 11), generator=generator).to(dtype)
    weight = torch.randint(-1, 2, (6, 2, 3, 3), generator=generator).to(dtype)
    weight = weight.repeat(3, 1, 1, 1)[torch.tensor([0, 6, 1, 12, 7, 2, 3, 4, 9, 5, 10, 11])]
    options = dict(padding=1, stride=(2, 1), groups=2, wta=wta, rank=2, t_invert=0.5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rule in TIE_RULES:
            native, plain = (
                softhebb_conv2d(x, weight, tie_rule=rule, backend=backend, **options)
                for backend in ("cpp", "reference")
            )
            assert torch.equal(native.u, plain.u)
            if wta.startswith("hard"):
                assert torch.equal(native.delta_w, plain.delta_w)
            else:
                torch.testing.assert_close(native.delta_w, plain.delta_w)
    finally:
        torch.set_num_threads(before)


@NATIVE
def test_positions_count_through_all_tiles_of_a_large_layer():
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(-2, 3, (4, 24, 20, 20), generator=generator).float()
    weight = torch.randint(-1, 2, (5, 24, 3, 3), generator=generator).float().repeat(64, 1, 1, 1)
    native, plain = (
        softhebb_conv2d(x, weight, wta="hard", tie_rule="spread", backend=backend)
        for backend in ("cpp", "reference")
    )
    assert torch.equal(native.delta_w, plain.delta_w)
    assert native.delta_w.flatten(1).any(dim=1).sum() > 300


@NATIVE
def test_nan_is_spread_alike():
    x = images(3, 2, 6, 6)
    weight = twins((4, 2, 3, 3))
    weight[[1, 3]] = NAN
    y = [
        softhebb_conv2d(x, weight, wta="hard", tie_rule="spread", backend=b).delta_w.isnan()
        for b in ("cpp", "reference")
    ]
    assert torch.equal(*y)


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpp", marks=NATIVE)])
def test_identical_filters_part_all_at_once(backend):
    options = dict(lr=0.1, t_invert=1.0, backend=backend)
    for rule, distinct in (("first", 2), ("spread", 12)):
        weight = twins((12, 1, 3, 3))
        softhebb_conv2d_step_(images(8, 1, 10, 10), weight, tie_rule=rule, **options)
        assert init.distinct_filters(weight) == distinct


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpp", marks=NATIVE)])
def test_linear_layers_spread_ties_too(backend):
    x, weight = images(200, 6), twins((4, 6))
    delta_w = softhebb_linear(x, weight, wta="hard", tie_rule="spread", backend=backend).delta_w
    assert delta_w.any(dim=1).all()
    delta_w = softhebb_linear(x, weight, wta="hard", backend=backend).delta_w
    assert delta_w.any(dim=1).tolist() == [True, False, False, False]


def test_layers_and_networks_take_the_rule():
    for layer in (SoftHebbConv2d(1, 2, 3, tie_rule="spread"), SoftHebbLinear(3, 2)):
        assert layer.options()["tie_rule"] == layer.tie_rule
        assert ("tie_rule='spread'" in repr(layer)) == (layer.tie_rule == "spread")
    net = build(get_preset("2SoftHebbCnnCIFAR"), (1, 28, 28), 10, tie_rule="spread")
    assert net.blocks[0].layer.tie_rule == "spread"


@pytest.mark.parametrize("what", [SoftHebbConv2d, soft_wta])
def test_an_unknown_rule_is_refused(what):
    arguments = (torch.zeros(2, 3),) if what is soft_wta else (1, 2, 3)
    with pytest.raises(ValueError, match="tie_rule must be one of first, spread; got 'last'"):
        what(*arguments, tie_rule="last")


def test_triton_declines_and_auto_takes_the_reference(monkeypatch):
    monkeypatch.setattr("softhebb_fast.ops.TRITON_MISSING", None)
    assert backends.why_not("triton", "cuda") is None
    reason = backends.why_not("triton", "cuda", torch.float32, "spread")
    assert "tie_rule='first' only, not 'spread'" in reason
    assert backends.choose("cuda", torch.float32) == "triton"
    assert backends.choose("cuda", torch.float32, "spread") == "reference"
    with pytest.raises(RuntimeError, match="tie_rule='first' only"):
        backends.resolve("triton", "cuda", torch.float32, "spread")
