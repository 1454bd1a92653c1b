"""The fewest passes that PyTorch's own operators allow, to be run as they are or compiled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast.bench.cases import Part
from softhebb_fast.options import Competition
from softhebb_fast.presets import Layer


def activate_and_pool(layer: Layer, u: Tensor) -> Tensor:
    """What follows the layer in its block."""
    name, parameter = layer.activation
    if name == "softmax":
        a = torch.softmax(parameter * u, dim=1)
    else:
        a = F.relu(u - u.mean(dim=1, keepdim=True) if name == "triangle" else u)
        a = a if parameter == 1 else a**parameter
    if layer.pool is None:
        return a
    pool = F.max_pool2d if layer.pool.kind == "max" else F.avg_pool2d
    return pool(a, layer.pool.kernel, layer.pool.stride, layer.pool.padding)


def learn(part: Part, x: Tensor, weight: Tensor) -> Tensor:
    """u of a layer; steps ``weight`` in place."""
    x = prepared(part, x, weight)
    u = product(x, weight)
    y = competition(part.competition, u)
    last = not weight.is_contiguous()
    rows, sums = _rows(weight, last), _rows(weight_gradient(x, y, weight), last)
    projection = torch.linalg.vecdot(rows, sums).unsqueeze(1)
    d = torch.addcmul(sums, rows, projection, value=-1)
    largest = torch.linalg.vector_norm(d, float("inf")) + 1e-30
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rates = part.layer.lr * ((norm - 1).abs() + 1e-10) ** part.layer.lr_power
    rows.addcmul_(d, rates / largest)
    return u


def prepared(part: Part, x: Tensor, weight: Tensor) -> Tensor:
    """The input that the weight multiplies: flat, or padded and in the weight's layout."""
    if weight.dim() == 2:
        return x.flatten(1)
    x = F.pad(x, (part.layer.padding,) * 4, part.layer.padding_mode)
    return x if weight.is_contiguous() else x.contiguous(memory_format=torch.channels_last)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """u from a prepared input."""
    return F.linear(x, weight) if weight.dim() == 2 else F.conv2d(x, weight)


def competition(competition: Competition, u: Tensor) -> Tensor:
    """y of a soft competition over dimension 1."""
    y = _softmax(competition.t_invert * u)
    if competition.wta == "soft":
        return y
    y = y.neg_()
    winner = u.argmax(dim=1, keepdim=True)
    return y.scatter_(1, winner, -y.gather(1, winner))


def weight_gradient(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The sum over positions of y times patch."""
    if weight.dim() == 2:
        return y.t() @ x
    found = torch.ops.aten.convolution_backward(
        y, x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
    )
    return found[1]


def _softmax(u: Tensor) -> Tensor:
    """Over the neurons, in the layout of u: over dimension 1 torch would copy what is not
    contiguous."""
    if u.is_contiguous():
        return torch.softmax(u, dim=1)
    return torch.softmax(u.movedim(1, -1), dim=-1).movedim(-1, 1)


def _rows(filters: Tensor, last: bool) -> Tensor:
    """A row a neuron, the channels ``last`` or first: a view of filters that lie so."""
    return (filters.movedim(1, -1) if last else filters).flatten(1)


@torch.no_grad()
def step(parts: Sequence[Part], weights: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """One unsupervised step of a network; the outputs of its blocks."""
    outputs = []
    for part, weight in zip(parts, weights, strict=True):
        if part.layer.batch_norm:
            x = F.batch_norm(x, None, None, training=True)
        x = activate_and_pool(part.layer, learn(part, x, weight))
        outputs.append(x)
    return outputs


@torch.no_grad()
def layer(parts: Sequence[Part], weights: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """u of one layer, which learns."""
    return [learn(parts[0], x, weights[0])]


def features(parts: Sequence[Part], weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """What a network that has not begun to learn makes of images, in evaluation mode."""
    for part, weight in zip(parts, weights, strict=True):
        if part.layer.batch_norm:
            x = x / (1 + nn.BatchNorm2d(part.shape[0]).eps) ** 0.5
        x = activate_and_pool(part.layer, product(prepared(part, x, weight), weight))
    return x
