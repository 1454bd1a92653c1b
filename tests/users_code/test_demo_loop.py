"""The published example's program: its layers, optimizer and schedulers by name, its two loops and
a checkpoint, beside the same program written out without any of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from softhebb_fast import SoftHebbConv2d, Triangle
from softhebb_fast.optim import CustomStepLR, TensorLRSGD, WeightNormDependentLR
from tests.nn.example import ExampleConv2d
from tests.tolerances import TOLERANCES, assert_close

EPOCHS = 10
IMAGES = 24


class Net(nn.Module):
    def __init__(self, conv: type) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(3, affine=False)
        self.conv1 = conv(in_channels=3, out_channels=8, kernel_size=5, padding=2, t_invert=1)
        self.bn2 = nn.BatchNorm2d(8, affine=False)
        self.conv2 = conv(in_channels=8, out_channels=12, kernel_size=3, padding=1, t_invert=0.65)
        self.bn3 = nn.BatchNorm2d(12, affine=False)
        self.conv3 = conv(in_channels=12, out_channels=16, kernel_size=3, padding=1, t_invert=0.25)
        self.activations = nn.ModuleList([Triangle(0.7), Triangle(1.4), Triangle(1.0)])
        self.max_pool = nn.MaxPool2d(4, stride=2, padding=1)
        self.avg_pool = nn.AvgPool2d(2, stride=2)
        self.classifier = nn.Linear(16 * 2 * 2, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.max_pool(self.activations[0](self.conv1(self.bn1(x))))
        x = self.max_pool(self.activations[1](self.conv2(self.bn2(x))))
        x = self.avg_pool(self.activations[2](self.conv3(self.bn3(x))))
        return self.classifier(self.dropout(x.flatten(1)))


# The published optimizer and schedulers, written out


class LiteralSGD:
    """Every parameter minus its rate, a tensor, times its gradient."""

    def __init__(self, param_groups: list[dict], lr: float) -> None:
        self.param_groups = [{**group, "params": list(group["params"])} for group in param_groups]

    def zero_grad(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(-group["lr"] * p.grad)


class LiteralNormLR:
    def __init__(self, optimizer: LiteralSGD, power_lr: float) -> None:
        self.optimizer, self.power_lr = optimizer, power_lr
        self.initial = [group["lr"] for group in optimizer.param_groups]
        self.step()

    def step(self) -> None:
        for lr, group in zip(self.initial, self.optimizer.param_groups, strict=True):
            (weight,) = group["params"]
            norm = torch.linalg.norm(weight.detach().view(weight.shape[0], -1), dim=1, ord=2)
            rates = lr * ((norm - 1).abs() + 1e-10) ** self.power_lr
            group["lr"] = rates[:, None, None, None]


class LiteralStepLR:
    def __init__(self, optimizer: torch.optim.Optimizer, nb_epochs: int) -> None:
        self.optimizer, self.epoch = optimizer, 0
        self.steps = [int(nb_epochs * r) for r in (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)]

    def step(self) -> None:
        self.epoch += 1
        if self.epoch in self.steps:
            self.optimizer.param_groups[0]["lr"] *= 0.5


OURS = (TensorLRSGD, WeightNormDependentLR, CustomStepLR)
LITERAL = (LiteralSGD, LiteralNormLR, LiteralStepLR)


@dataclass
class Program:
    """A run of the example, which stops after so many batches of both loops if told to."""

    conv: type = SoftHebbConv2d
    names: tuple = OURS
    dtype: torch.dtype = torch.float32
    done: int = 0
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        sgd, norm_lr, step_lr = self.names
        self.net = net = Net(self.conv).to(self.dtype)
        self.unsup_optimizer = sgd(
            [
                {"params": net.conv1.parameters(), "lr": -0.08},
                {"params": net.conv2.parameters(), "lr": -0.005},
                {"params": net.conv3.parameters(), "lr": -0.01},
            ],
            lr=0,
        )
        self.unsup_lr_scheduler = norm_lr(self.unsup_optimizer, power_lr=0.5)
        self.sup_optimizer = torch.optim.Adam(net.classifier.parameters(), lr=0.001)
        self.sup_lr_scheduler = step_lr(self.sup_optimizer, nb_epochs=EPOCHS)
        generator = torch.Generator().manual_seed(1)
        images = torch.rand(IMAGES, 3, 16, 16, generator=generator).to(self.dtype)
        self.images = TensorDataset(images, torch.arange(IMAGES) % 4)
        self.parts = ("unsup_optimizer", "unsup_lr_scheduler", "sup_optimizer", "sup_lr_scheduler")

    def batches(self, epoch: int, size: int) -> DataLoader:
        order = torch.Generator().manual_seed(epoch)
        return DataLoader(self.images, batch_size=size, shuffle=True, generator=order)

    def run(self, until: int | None = None) -> Program:
        seen = 0
        for epoch in range(1 + EPOCHS):
            for x, labels in self.batches(epoch, 4 if epoch == 0 else 8):
                seen += 1
                if seen <= self.done:
                    continue
                if seen - 1 == until:
                    return self
                self.unsupervised(x) if epoch == 0 else self.supervised(x, labels)
                self.done = seen
                if epoch and seen % 3 == 0:
                    self.sup_lr_scheduler.step()
        return self

    @torch.no_grad()
    def unsupervised(self, x: Tensor) -> None:
        self.net.train()
        self.unsup_optimizer.zero_grad()
        self.net(x)
        self.unsup_optimizer.step()
        self.unsup_lr_scheduler.step()

    def supervised(self, x: Tensor, labels: Tensor) -> None:
        self.net.eval()
        self.net.dropout.train()
        self.sup_optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(x), labels)
        loss.backward()
        self.sup_optimizer.step()
        self.losses.append(loss.item())

    def save(self, path: Path) -> None:
        state = {name: getattr(self, name).state_dict() for name in (*self.parts, "net")}
        torch.save(state | {"done": self.done, "random": torch.get_rng_state()}, path)

    def load(self, path: Path) -> Program:
        state: dict[str, Any] = torch.load(path)
        for name in (*self.parts, "net"):
            getattr(self, name).load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        self.done = state["done"]
        return self


BATCHES = IMAGES // 4 + EPOCHS * IMAGES // 8
REFERENCE = functools.partial(SoftHebbConv2d, backend="reference")


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_program_trains_what_the_literal_one_does():
    ours = Program(dtype=torch.float64).run()
    literal = Program(ExampleConv2d, LITERAL, torch.float64).run()
    start = Program(dtype=torch.float64).net
    assert ours.done == literal.done == BATCHES
    for name, expected in literal.net.named_parameters():
        assert_close(ours.net.get_parameter(name), expected, TOLERANCES["float64_steps"])
        assert (start.get_parameter(name) - expected).abs().max() > 1e-3, name
    assert ours.losses == pytest.approx(literal.losses, rel=TOLERANCES["float64_steps"])
    assert ours.sup_optimizer.param_groups[0]["lr"] == 1e-3 / 128


def test_the_optimizer_and_the_schedulers_take_the_literal_steps_bit_for_bit():
    ours, literal = Program(REFERENCE).run(), Program(REFERENCE, LITERAL).run()
    assert_same_bits(ours.net, literal.net)
    for group, other in zip(
        ours.unsup_optimizer.param_groups, literal.unsup_optimizer.param_groups, strict=True
    ):
        assert torch.equal(group["lr"], other["lr"])
    assert ours.losses == literal.losses


@pytest.mark.parametrize("stop", [0, 3, 6, 20, BATCHES])
def test_a_resumed_program_ends_with_the_same_bits(stop, tmp_path):
    whole = Program().run()
    first = Program().run(until=stop)
    assert first.done == stop
    first.save(tmp_path / "checkpoint.pt")
    torch.rand(7)
    resumed = Program().load(tmp_path / "checkpoint.pt").run()
    assert_same_bits(resumed.net, whole.net)
    assert resumed.losses == whole.losses[-len(resumed.losses) :] if resumed.losses else True
    for name in whole.parts:
        assert str(getattr(resumed, name).state_dict()) == str(getattr(whole, name).state_dict())
