"""Images on CUDA come channels last, on tensors that pretend to be there."""

from __future__ import annotations

import pytest
import torch

from tests.data.writers import counted, with_tensors
from tests.kernels.test_fake_cuda import CUDA, fake_cuda


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_images_are_channels_last_on_cuda(device):
    made = counted(5, (3, 8, 6))
    with fake_cuda():
        on = CUDA if device == "cuda" else torch.device("cpu")
        images = torch.zeros(5, 3, 8, 6, dtype=torch.uint8, device=on)
        labels = torch.zeros(5, dtype=torch.int64, device=on)
        x, _ = with_tensors(made, images, labels).batch(torch.arange(4, device=on))
    assert x.is_contiguous(memory_format=torch.channels_last) == (device == "cuda")
    assert x.is_contiguous() == (device == "cpu")
