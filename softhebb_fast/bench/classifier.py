"""A step of the linear classifier on frozen features; a call returns its loss and gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast import nn as own_nn
from softhebb_fast.bench.cases import PROBE_ROWS, Case
from softhebb_fast.bench.eager import features
from softhebb_fast.bench.inputs import Inputs
from softhebb_fast.bench.published import PublishedNet
from softhebb_fast.training.classifier import supervised_step
from softhebb_fast.training.features import FeatureSet

RATE = 1e-3


def published(case: Case, given: Inputs) -> Callable[[], list[Tensor]]:
    """The features are computed for every batch."""
    net = PublishedNet(case.parts, given.weights, case.classes, case.dropout)
    optimizer = torch.optim.Adam(net.head.parameters(), lr=RATE)

    def call() -> list[Tensor]:
        loss = net.classify(given.x, given.labels, optimizer)
        return [torch.tensor(loss), net.head[-1].weight.grad]

    return call


def tuned(case: Case, given: Inputs) -> Callable[[], list[Tensor]]:
    """torch's own dropout and Adam on features that are kept."""
    model = _head(case, given, nn.Dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    kept, order = _kept(case, given)

    def call() -> list[Tensor]:
        x, labels = kept.batch(order)
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [loss.detach(), model[-1].weight.grad]

    return call


def own(case: Case, given: Inputs) -> Callable[[], list[Tensor]]:
    """The step of this package's trainer, on features that are kept."""
    model = _head(case, given, own_nn.Dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    kept, order = _kept(case, given)

    def call() -> list[Tensor]:
        loss, _ = supervised_step(model, optimizer, *kept.batch(order))
        return [loss / case.batch, model[-1].weight.grad]

    return call


def _head(case: Case, given: Inputs, dropout: type[nn.Module]) -> nn.Sequential:
    layers = nn.Flatten(), dropout(case.dropout), nn.Linear(case.features, case.classes)
    return nn.Sequential(*layers).to(given.x.device)


def _kept(case: Case, given: Inputs) -> tuple[FeatureSet, Tensor]:
    """The features of the images again and again, and an order that meets each of them once."""
    with torch.no_grad():
        x = features(case.parts, given.weights, given.x)
    copies = max(1, PROBE_ROWS // case.batch)
    place = torch.randint(copies, (case.batch,), generator=torch.Generator().manual_seed(0))
    order = place * case.batch + torch.arange(case.batch)
    kept = FeatureSet(x.repeat(copies, *[1] * (x.dim() - 1)), given.labels.repeat(copies))
    return kept, order.to(x.device)
