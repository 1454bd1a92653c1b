"""What layers notice on the device, and 16-bit weights that learn there."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from softhebb_fast import SoftHebbConv2d
from tests.gpu import DEVICE, MARKS
from tests.tolerances import TOLERANCES

pytestmark = MARKS
SMALL = {"update": "in_place", "lr": 3e-4, "lr_power": 0.0, "radius": 1.0}


def layer(**options) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    return SoftHebbConv2d(8, 32, 3, padding=1, generator=generator, **options).to(DEVICE)


def batch(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 8, 8, 8, generator=generator).to(DEVICE)


def test_a_scaler_under_autocast_does_not_step_updates():
    hebbian, head = layer(), nn.Linear(32, 4, device=DEVICE)
    optimizer = torch.optim.SGD([*hebbian.parameters(), *head.parameters()], lr=0.1)
    scaler = GradScaler(DEVICE.type, init_scale=16.0)
    with torch.autocast(DEVICE.type, dtype=torch.float16):
        loss = head(hebbian(batch()).mean(dim=(2, 3))).square().mean()
    scaler.scale(loss).backward()
    with pytest.raises(RuntimeError, match="GradScaler"):
        scaler.step(optimizer)


def test_a_step_in_place_tells_autograd():
    hebbian = layer(update="in_place", lr=0.1)
    x = batch().requires_grad_()
    u = hebbian.eval()(x)
    hebbian.train()(batch(1))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        u.sum().backward()


def test_an_expanded_weight_is_not_stepped():
    hebbian = layer(update="in_place", lr=0.1)
    hebbian.weight.data = hebbian.weight.data[:1].expand_as(hebbian.weight)
    with pytest.raises(ValueError, match="weight must not be expanded"):
        hebbian(batch())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_steps_move_16_bit_weights(dtype):
    moves = []
    for to, rounding in ((torch.float32, "nearest"), (dtype, "stochastic")):
        hebbian = layer(rounding=rounding, **SMALL).to(to)
        start = hebbian.weight.detach().float().clone()
        for step in range(100):
            hebbian(batch(step % 10).to(to))
        moves.append(hebbian.weight.detach().float() - start)
    exact, found = moves
    share = float((found * exact).sum() / exact.square().sum())
    assert share == pytest.approx(1, abs=TOLERANCES["share_of_a_movement"])
