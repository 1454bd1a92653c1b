"""The operators around the layer: a batch gathered, and normalised."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.extension import call
from softhebb_fast.ops import batch_norm, gather  # noqa: F401  # they register themselves


@pytest.mark.parametrize("tracks", [True, False])
def test_opcheck(tracks):
    x = torch.randn(4, 3, 5, 6).to(memory_format=torch.channels_last)
    statistics = (torch.zeros(3), torch.ones(3), torch.tensor(0)) if tracks else (None,) * 3
    torch.library.opcheck(call.batch_norm.default, (x, *statistics, 0.1, 1e-5))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_opcheck_of_gather(dtype):
    images = torch.randint(256, (5, 3, 4, 4)).to(dtype)
    constants = (torch.zeros(3), torch.ones(3)) if dtype == torch.uint8 else (None, None)
    rest = (torch.randperm(5), torch.tensor(1), *constants, 1, 2)
    torch.library.opcheck(call.gather.default, (images, torch.arange(5), *rest))
