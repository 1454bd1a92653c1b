"""What launches take and leave beside their results, from their arguments."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.gpu.offline import record
from tests.by_keyword import kernels
from tests.kernels.cases import CONV, LINEAR


def scratch(call) -> int:
    """The most elements of a tensor of the launches."""
    named = (launch.named.values() for launch in record(call, "sm_90a"))
    return max(t.numel() for found in named for t in found if isinstance(t, torch.Tensor))


def big(*shape, channels_last):
    x = torch.empty(shape, device="meta")
    return x.to(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize("bound", [None, 4.0])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::2000],
        lambda x: x[:, :, ::4, ::4],
        lambda x: x[:, ::32],
        lambda x: x[::2000].flip(0),
    ],
    ids=["images", "pixels", "channels", "reversed"],
)
def test_views_with_wide_gaps_are_copied(monkeypatch, view, channels_last, bound):
    """Float16 factors of x are as long as what x spans."""
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")
    x = view(big(20000, 64, 8, 8, channels_last=channels_last))
    w = torch.empty(32, x.shape[1], 1, 1, device="meta")
    options = CONV | {"padding": (0, 0), "x_bound": bound}
    results = max(x.numel(), 32 * x.shape[0] * x.shape[2] * x.shape[3])
    assert scratch(lambda: kernels.conv2d(x, w, None, **options)) <= 2 * results


def test_rows_of_a_wide_matrix_are_copied(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")
    x, w = torch.empty(5000, 1 << 16, device="meta")[:, :64], torch.empty(32, 64, device="meta")
    assert scratch(lambda: kernels.linear(x, w, None, **LINEAR)) <= 2 * x.numel()


def test_views_with_narrow_gaps_are_not(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")
    x = torch.empty(10, 64, 8, 9, device="meta")[..., :8]
    w = torch.empty(32, 64, 3, 3, device="meta")
    found = record(lambda: kernels.conv2d(x, w, None, **CONV), "sm_90a")
    assert found[0].named["x"] is x
