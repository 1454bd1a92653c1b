"""The published example's layer, optimizer and rates, restated from the paper's equations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ExampleConv2d(nn.Module):
    """A convolution that writes its Hebbian update to ``weight.grad`` while it trains."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        t_invert: float = 12,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = (kernel_size, kernel_size), (stride, stride)
        self.dilation, self.groups = (dilation, dilation), groups
        self.F_padding = (padding,) * 4
        self.t_invert = torch.tensor(t_invert)
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        scale = 25 / (in_channels // groups * kernel_size**2) ** 0.5
        self.weight = nn.Parameter(scale * torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, self.F_padding, "reflect")
        u = F.conv2d(padded, self.weight, None, self.stride, 0, self.dilation, self.groups)
        if self.training:
            with torch.no_grad():
                self.weight.grad = self._update(padded, u)
        return u

    def _update(self, x: Tensor, u: Tensor) -> Tensor:
        y = -torch.softmax(self.t_invert * u, dim=1)
        y = torch.where(F.one_hot(u.argmax(1), u.shape[1]).movedim(3, 1) == 1, -y, y)
        yx = F.conv2d(x.transpose(0, 1), y.transpose(0, 1)).transpose(0, 1)
        yu = (y * u).sum((0, 2, 3))
        d = yx - yu.view(-1, 1, 1, 1) * self.weight
        return d / (d.abs().max() + 1e-30)


class RowRateSGD(torch.optim.SGD):
    """SGD that takes ``lr`` as a number or, one rate a neuron, as a tensor."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            lr = group["lr"]
            for p in group["params"]:
                if p.grad is not None:
                    rate = lr.view(-1, *[1] * (p.dim() - 1)) if isinstance(lr, Tensor) else lr
                    p.add_(-rate * p.grad)


class NormRates:
    """Sets the rate of every neuron from the norm of its filter; to be stepped after each step."""

    def __init__(self, optimizer: torch.optim.Optimizer, power: float = 0.5) -> None:
        self.groups, self.power = optimizer.param_groups, power
        self.base = [group["lr"] for group in self.groups]
        self.step()

    @torch.no_grad()
    def step(self) -> None:
        for base, group in zip(self.base, self.groups, strict=True):
            norm = group["params"][0].flatten(1).norm(dim=1)
            group["lr"] = base * ((norm - 1).abs() + 1e-10) ** self.power


class ExampleNet(nn.Module):
    """Three convolutions with their normalisation, activation and pooling, then a classifier.

    ``conv`` makes a layer; ``options`` holds further arguments of each of the three.
    """

    def __init__(self, conv: type, activation: type, options=({}, {}, {})) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(2, affine=False)
        self.conv1 = conv(2, 8, 5, padding=2, t_invert=1, **options[0])
        self.activ1 = activation(power=0.7)
        self.pool1 = nn.MaxPool2d(4, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(8, affine=False)
        self.conv2 = conv(8, 12, 3, padding=1, t_invert=0.65, **options[1])
        self.activ2 = activation(power=1.4)
        self.pool2 = nn.MaxPool2d(4, stride=2, padding=1)
        self.bn3 = nn.BatchNorm2d(12, affine=False)
        self.conv3 = conv(12, 16, 3, padding=1, t_invert=0.25, **options[2])
        self.activ3 = activation(power=1.0)
        self.pool3 = nn.AvgPool2d(2, stride=2)
        self.classifier = nn.Linear(16 * 2 * 2, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.activ1(self.conv1(self.bn1(x))))
        x = self.pool2(self.activ2(self.conv2(self.bn2(x))))
        x = self.pool3(self.activ3(self.conv3(self.bn3(x))))
        return self.classifier(x.flatten(1))

    def hebbian_groups(self, sign: int = -1) -> list[dict]:
        rates = (0.08, 0.005, 0.01)
        layers = (self.conv1, self.conv2, self.conv3)
        return [
            {"params": list(layer.parameters()), "lr": sign * lr}
            for layer, lr in zip(layers, rates, strict=True)
        ]
