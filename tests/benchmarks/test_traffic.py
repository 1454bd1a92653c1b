"""The model of the L2 behind the bytes through HBM, by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from benchmarks.gpu import l2
from benchmarks.gpu.l2 import Cache
from benchmarks.gpu.layers import call
from benchmarks.gpu.offline import record
from benchmarks.gpu.traffic import bound, hbm_bytes, least, span


def test_what_was_touched_longest_ago_leaves_first(monkeypatch):
    monkeypatch.setattr(l2, "L2", 30.0)
    cache = Cache()
    for piece in ("a", "b", "c", "a", "d"):  # d takes the place of b
        cache.touch((piece,), 10.0, dirty=piece == "b", fresh=False)
    assert [*cache.held] == [("c",), ("a",), ("d",)]
    assert (cache.read, cache.evicted) == (40.0, 10.0)
    cache.touch(("b",), 10.0, dirty=True, fresh=True)  # written whole: not read
    assert (cache.read, cache.evicted) == (40.0, 10.0)


def test_pieces_of_a_tile():
    assert span(1, 128, 256, 9) == range(1)
    assert span(1, 384, 256, 9) == range(1, 3)
    assert span(3, 256, 100, 9) == range(7, 9)


@pytest.mark.parametrize(
    "layer", ["cifar10-2@10", pytest.param("cifar10-3@100", marks=pytest.mark.slow)]
)
def test_no_order_moves_less_than_the_bound(layer, monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")  # restored after the layer sets it
    launches = record(call(layer, "tf32"), "sm_90a")
    moved, lower = sum(hbm_bytes(launches)), bound(launches)
    if layer == "cifar10-2@10":  # all of it fits
        assert moved == pytest.approx(least(launches), rel=1e-2)
        assert lower == pytest.approx(moved, rel=1e-2)
    else:
        assert least(launches) < lower < moved
