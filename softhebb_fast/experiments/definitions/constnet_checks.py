"""What can be measured of ConstNet's and LeakyNet's start without training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast.init import apply, symmetry
from softhebb_fast.models import network

SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 4
GROUPS = (range(1, 5), range(5, 9), range(9, 13))  # blocks of the network
FIRST_PAIR = 2  # of LeakyNet, behind the stem and its activation


def constant() -> nn.Sequential:
    return apply(network("constnet", SHAPE, CLASSES, widen=1), "constant").model


def images() -> Tensor:
    return torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(0))


def deviation() -> float:
    """The largest deviation between two channels of any weight."""
    return max(found.deviation for found in symmetry(constant(), ranks=False).values())


def logits() -> float:
    """The largest logit."""
    return float(constant()(images()).abs().max().detach())


def loss() -> float:
    """The loss from ln(classes)."""
    labels = torch.arange(BATCH)
    return abs(float(F.cross_entropy(constant()(images()), labels).detach()) - math.log(CLASSES))


def maps() -> float:
    """The largest difference between a block's output and that of its group's first."""
    found = outputs(constant())
    pairs = [(found[group[0]], found[i]) for group in GROUPS for i in group]
    return max(float((a - b).abs().max()) for a, b in pairs)


def gradients() -> float:
    """The relative difference between the norms of the gradients at the outputs of a group.

    The head is all ones. The loss is the mean of all logits times numbers of their own: equal
    rows would pass nothing of cross-entropy on.
    """
    net = constant()
    nn.init.ones_(net[-1].weight)
    found = outputs(net, keep=True)
    (found[-1] * torch.linspace(1, 2, found[-1].numel()).view_as(found[-1])).mean().backward()
    norms = [[float(found[i].grad.norm()) for i in group] for group in GROUPS]
    return max(abs(norm / group[0] - 1) for group in norms for norm in group)


def pair() -> float:
    """The largest difference of a pair of identities, batch norm left out, from -x."""
    net = network("leakynet", SHAPE, CLASSES, widen=1, codes="i" * 13)
    x = torch.randn(BATCH, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    return float((net[FIRST_PAIR : FIRST_PAIR + 4](x) + x).abs().max().detach())


def outputs(net: nn.Sequential, keep: bool = False) -> list[Tensor]:
    """What each part of the network gives, in training mode; their gradients kept if asked for."""
    x, found = images(), []
    for part in net:
        x = part(x)
        if keep:
            x.retain_grad()
        found.append(x)
    return found if keep else [x.detach() for x in found]


CHECKS = {
    function.__name__: function for function in (deviation, logits, loss, maps, gradients, pair)
}
