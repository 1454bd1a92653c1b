"""Offsets are no packed 16-bit sums: ptxas 12.8 to 13.0 loses the constant of some of them."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.offline import record
from softhebb_fast import kernels
from softhebb_fast.kernels import configs
from tests.triton.cases import CASES


@pytest.mark.parametrize("path", ["apart", "one pass"])
@pytest.mark.parametrize("name", ["zeros", "circular"])
def test_no_packed_sums(name, path, monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "ieee")
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    x, w, bias = CASES[name].tensors(torch.float32)
    for launch in record(lambda: kernels.conv2d(x, w, bias, **CASES[name].conv), "sm_90a"):
        assert "16x2" not in launch.compile("sm_90a").asm["ptx"], launch.name
