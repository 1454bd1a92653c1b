from __future__ import annotations

import pytest
import torch
from torch import nn

from softhebb_fast.models import build
from softhebb_fast.models import features as through
from softhebb_fast.presets import get_preset
from softhebb_fast.training import features
from softhebb_fast.training.features import FeatureSet
from tests.data.writers import counted


def samples(x: list, labels: list) -> FeatureSet:
    return FeatureSet(torch.tensor(x, dtype=torch.float32), torch.tensor(labels))


@pytest.fixture
def blocks() -> list[nn.Module]:
    torch.manual_seed(0)
    net = build(get_preset("3SoftHebbCnnCIFAR", neuron_factor=0.05), (1, 8, 8), 10).eval()
    return list(net.blocks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cached_features_are_the_features(blocks, dtype):
    data = counted(12, (1, 8, 8))
    cached = features.cache_features(data, blocks, dtype)
    expected = through(blocks, data.batch(slice(None))[0])
    assert cached.images.dtype == dtype
    assert torch.equal(cached.images, expected.to(dtype))
    assert torch.equal(cached.labels, data.labels)
    x, labels = cached.batch(torch.tensor([5, 2]))
    assert x.dtype == torch.float32
    assert torch.equal(x, expected.to(dtype)[[5, 2]].float())
    assert labels.tolist() == [5, 2]
    assert len(cached) == 12
    assert features.feature_bytes(data, blocks, dtype) == cached.images.numel() * dtype.itemsize


def test_features_are_computed_in_batches_of_a_fixed_size(blocks, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 5)
    data, sizes = counted(12, (1, 8, 8)), []
    cached = features.cache_features(data, blocks, on_batch=sizes.append)
    assert sizes == [5, 5, 2]
    parts = [through(blocks, data.batch(slice(i, i + 5))[0]) for i in (0, 5, 10)]
    assert torch.equal(cached.images, torch.cat(parts))


def test_features_in_the_place_of_features(blocks):
    data = counted(12, (1, 8, 8))
    first = features.cache_features(data, blocks[:1])
    expected = features.cache_features(data, blocks).images
    assert features.fits(first, blocks[1:])
    assert not features.fits(FeatureSet(*data.batch(slice(None))), blocks[:1])
    found = features.cache_features(first, blocks[1:], in_place=True)
    assert torch.equal(found.images, expected)
    assert found.images.data_ptr() == first.images.data_ptr()
    x, _ = found.batch(torch.tensor([7, 3]))
    assert torch.equal(x, expected[[7, 3]])
    assert found.batch(slice(2, 5))[0].is_contiguous()  # other layouts, other rounding


class Layouts(nn.Module):
    """Gives its output channels last; the output tells whether the input was so, too."""

    def forward(self, x):
        last = x.stride(1) == 1
        return (x[:, :4, ::2, ::2] + last).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("in_place", [False, True])
def test_cached_features_keep_the_memory_format(dtype, in_place, monkeypatch):
    """What is computed from a cache is what is computed through the blocks, in this also."""
    monkeypatch.setattr(features, "CHUNK", 5)
    data = samples((torch.arange(12 * 4 * 64) % 251).view(12, 4, 8, 8).tolist(), [*range(12)])
    blocks = [Layouts(), Layouts()]
    first = features.cache_features(data, blocks[:1], dtype)
    found = features.cache_features(first, blocks[1:], dtype, in_place=in_place)
    assert (found.images.data_ptr() == first.images.data_ptr()) == in_place
    want = through(blocks, data.images)
    for index in (slice(2, 5), slice(4, 5), torch.tensor([7, 3])):
        x, labels = found.batch(index)
        assert torch.equal(x, want[index])
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert x.stride()[1:] == want.stride()[1:]
        assert torch.equal(labels, data.labels[index])
