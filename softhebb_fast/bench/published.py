"""The published networks as published, every pass of theirs included: the honest baseline.

Written afresh from the description of the algorithm. What costs time there and nothing demands is
kept: the Lebesgue transform of the weights at p = 2, competition on a transposed copy, the update
as a convolution of the padded input with a kernel as large as the map, statistics that wait for
the device, the rates spread over the whole weight, samples fetched one at a time, and features
that are computed again for every batch of the classifier.

Source: Journé et al. 2023 (arXiv 2209.11883), and the published SoftHebb code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from softhebb_fast.bench.cases import Part
from softhebb_fast.bench.eager import activate_and_pool
from softhebb_fast.data import ImageSet
from softhebb_fast.presets import Layer


class PublishedLayer:
    """A layer that learns when it is asked to: ``u = layer(x)``, then ``layer.update()``."""

    layer: Layer
    weight: Tensor
    wins: Tensor
    delta_w: Tensor
    winner_probability: float
    rates: Tensor
    mean_rate: float

    def __init__(self, part: Part, weight: Tensor) -> None:
        self.layer, self.weight = part.layer, weight
        self.wins = torch.zeros(weight.shape[0])
        self._new_rates()

    def __call__(self, x: Tensor, learn: bool) -> Tensor:
        conv, pad = self.weight.dim() == 4, self.layer.padding
        if conv:
            x = F.pad(x, (pad,) * 4, self.layer.padding_mode)
        p = self.layer.lebesgue_p
        weight = self.weight.sign() * self.weight.abs() ** (p - 1)
        u = F.conv2d(x, weight) if conv else F.linear(x, weight)
        if learn:
            self.delta_w = self._direction(x, u.clone())
        return u

    def update(self) -> None:
        shape = (-1, *[1] * (self.weight.dim() - 1))
        self.weight += self.rates.view(shape).expand(self.weight.shape).contiguous() * self.delta_w
        self._new_rates()

    def _direction(self, x: Tensor, u: Tensor) -> Tensor:
        y = self._competition(u)
        yu = torch.sum(y * u, dim=(0, *range(2, u.dim())))
        if u.dim() == 4:
            yx = F.conv2d(x.transpose(0, 1), y.transpose(0, 1)).transpose(0, 1)
            size = self.weight.shape[2:]
            yx = torch.cat([yx[:, :, : size[0], : size[1]]])
        else:
            yx = y.t() @ x
        d = yx - yu.view(-1, *[1] * (self.weight.dim() - 1)) * self.weight
        return d / (d.abs().amax() + 1e-30)

    def _competition(self, u: Tensor) -> Tensor:
        flat = u.transpose(0, 1).reshape(u.shape[1], -1)
        y = torch.softmax(self.layer.t_invert * flat, dim=0)
        self.wins += y.sum(dim=1).cpu()
        if self.layer.rule == "soft_anti":
            y = -y
            winner = flat.argmax(dim=0)
            position = torch.arange(winner.numel()).to(u.device)
            self.winner_probability = float(-y[winner, position].mean())
            y[winner, position] = -y[winner, position]
        shape = (u.shape[1], u.shape[0], *u.shape[2:])
        return y.view(shape).transpose(0, 1)

    def _new_rates(self) -> None:
        norms = self.weight.flatten(1).norm(p=self.layer.lebesgue_p, dim=1)
        self.rates = self.layer.lr * ((norms - 1).abs() + 1e-10) ** self.layer.lr_power
        self.mean_rate = float(self.rates.cpu().mean())


class PublishedNet:
    """Blocks of batch norm, layer, activation and pool, and the classifier on top."""

    layers: list[PublishedLayer]
    norms: list[nn.Module]
    head: nn.Sequential
    correct: int

    def __init__(
        self, parts: Sequence[Part], weights: Sequence[Tensor], classes: int, dropout: float
    ) -> None:
        self.layers = [PublishedLayer(*pair) for pair in zip(parts, weights, strict=True)]
        device = weights[0].device
        self.norms = [
            nn.BatchNorm2d(part.shape[0], affine=False).to(device).eval()
            if part.layer.batch_norm
            else nn.Identity()
            for part in parts
        ]
        last = parts[-1].output
        features = last[0] * last[1] * last[2]
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, classes))
        self.head.to(device).eval()

    def blocks(self, x: Tensor, trained: Sequence[int] = ()) -> list[Tensor]:
        """The output of every block; those in ``trained`` learn from this batch."""
        outputs = []
        for i, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            x = x.flatten(1) if layer.weight.dim() == 2 else norm.train(i in trained)(x)
            x = activate_and_pool(layer.layer, layer(x, i in trained))
            outputs.append(x)
        for i in trained:
            self.layers[i].update()
        return outputs

    @torch.no_grad()
    def learn(self, x: Tensor, trained: Sequence[int]) -> list[Tensor]:
        """An unsupervised step: the whole network is computed, the classifier included."""
        outputs = self.blocks(x, trained)
        self.head(outputs[-1])
        return outputs

    def classify(self, x: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> float:
        """A step of the classifier on features computed for it; returns the loss."""
        with torch.no_grad():
            features = self.blocks(x)[-1]
        logits = self.head.train()(features)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.correct = int((logits.argmax(dim=1) == labels).sum().cpu())
        return float(loss.detach().cpu())

    @torch.no_grad()
    def evaluate(self, x: Tensor, labels: Tensor) -> tuple[float, int]:
        """Loss and correct answers of one batch of the test set."""
        logits = self.head.eval()(self.blocks(x)[-1])
        loss = F.cross_entropy(logits, labels)
        return float(loss.cpu()), int((logits.argmax(dim=1) == labels).sum().cpu())


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Images fetched one at a time, as float32."""

    def __init__(self, images: ImageSet) -> None:
        self.images: Tensor = images.images.float() / 255
        self.labels: Tensor = images.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


def loader(images: ImageSet, batch: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches in random order, gathered by torch's loader in this process."""
    return DataLoader(Samples(images), batch_size=batch, shuffle=True, num_workers=0)
