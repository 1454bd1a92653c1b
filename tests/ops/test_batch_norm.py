from __future__ import annotations

import pytest
import torch

from softhebb_fast.extension import call


@pytest.mark.parametrize("tracks", [True, False])
def test_opcheck(tracks):
    x = torch.randn(4, 3, 5, 6).to(memory_format=torch.channels_last)
    statistics = (torch.zeros(3), torch.ones(3), torch.tensor(0)) if tracks else (None,) * 3
    torch.library.opcheck(call.batch_norm.default, (x, *statistics, 0.1, 1e-5))
