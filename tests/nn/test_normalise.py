"""A block's batch norm: the module, or the operator where that computes the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from softhebb_fast.nn import normalise
from softhebb_fast.nn.normalise import normalised
from softhebb_fast.ops.batch_norm import batch_norm


def maps() -> torch.Tensor:
    x = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return x.to(memory_format=torch.channels_last)


@pytest.fixture
def fused(monkeypatch) -> list[torch.Tensor]:
    """As if the operator's kernels were for tensors of this device; the inputs it was given."""
    given = []
    monkeypatch.setattr(normalise.ops, "why_not", lambda name, device: None)
    monkeypatch.setattr(
        normalise, "batch_norm", lambda x, *rest: (given.append(x), batch_norm(x, *rest))[1]
    )
    return given


@pytest.mark.parametrize("tracks", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operator_is_the_module(fused, tracks, dtype):
    norm = nn.BatchNorm2d(3, affine=False, track_running_stats=tracks, momentum=0.3)
    plain = copy.deepcopy(norm)
    for _ in range(2):
        assert torch.equal(normalised(norm, maps().to(dtype)), plain(maps().to(dtype)))
    assert len(fused) == 2
    for found, wanted in zip(norm.buffers(), plain.buffers(), strict=True):
        assert torch.equal(found, wanted)


class Halved(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) / 2


def hooked() -> nn.Module:
    norm = nn.BatchNorm2d(3, affine=False)
    norm.register_forward_hook(lambda module, args, out: out * 3)
    return norm


@pytest.mark.parametrize(
    ("norm", "x"),
    [
        (nn.BatchNorm2d(3), maps()),
        (nn.BatchNorm2d(3, affine=False, momentum=None), maps()),
        (nn.BatchNorm2d(3, affine=False).eval(), maps()),
        (nn.BatchNorm2d(3, affine=False).double(), maps().double()),
        (nn.BatchNorm2d(3, affine=False).bfloat16(), maps().bfloat16()),
        (nn.BatchNorm2d(3, affine=False), maps().contiguous()),
        (nn.BatchNorm2d(3, affine=False), maps().requires_grad_()),
        (nn.BatchNorm2d(3, affine=False), maps()[..., ::2]),
        (Halved(3, affine=False), maps()),
        (hooked(), maps()),
        (nn.InstanceNorm2d(3), maps()),
        (nn.Identity(), maps()),
    ],
)
def test_all_else_is_left_to_the_module(fused, norm, x):
    plain = copy.deepcopy(norm)
    assert torch.equal(normalised(norm, x), plain(x))
    assert not fused


def test_torch_says_what_is_wrong(fused):
    norm = nn.BatchNorm2d(3, affine=False)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalised(norm, torch.ones(1, 3, 1, 1))
    with pytest.raises(ValueError, match="expected 4D"):
        normalised(norm, torch.ones(4, 3))
    with pytest.raises(RuntimeError, match="running_mean"):
        normalised(norm, torch.ones(2, 4, 2, 2))
    assert not fused


def test_the_cpu_keeps_the_module():
    norm = nn.BatchNorm2d(3, affine=False)
    assert torch.equal(normalised(norm, maps()), copy.deepcopy(norm)(maps()))
    assert normalise._fuses(norm, maps()) is False
