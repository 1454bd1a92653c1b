"""What every provider of a case starts from: the same images or maps, weights, labels, states."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.bench.cases import Case, Part


class Inputs(NamedTuple):
    """``x``: images in [0, 1], or what batch norm makes of maps; labels are for the classifier.

    Images, maps and filters lie in memory as ``layout`` says. ``state`` holds the tensors that the
    rule of the first layer wants, by the names that ``functional.hebbian_conv2d`` has for them.
    """

    x: Tensor
    weights: list[Tensor]
    labels: Tensor
    layout: torch.memory_format
    state: dict[str, Tensor]


def inputs(
    case: Case,
    device: torch.device,
    layout: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> Inputs:
    """Drawn from a seed: the same, but for rounding, for every provider and in every process."""
    generator = torch.Generator().manual_seed(0)
    first = case.parts[0]
    normalised = case.kind == "layer" and first.layer.batch_norm
    draw = torch.randn if normalised else torch.rand
    x = draw(case.batch, *first.shape, generator=generator)
    if case.kind == "layer" and first.layer.kind == "linear":
        x = x.flatten(1)
    labels = torch.randint(case.classes, (case.batch,), generator=generator)
    weights = [laid_out(_weight(part, generator).to(device, dtype), layout) for part in case.parts]
    state = {name: t.to(device) for name, t in _state(first, labels, generator).items()}
    x = laid_out(x.to(device, dtype), layout)
    return Inputs(x, weights, labels.to(device), layout, state)


def laid_out(tensor: Tensor, layout: torch.memory_format) -> Tensor:
    """The tensor in that layout, if it is one of images, maps or filters."""
    return tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor


def _weight(part: Part, generator: torch.Generator) -> Tensor:
    """As the published nets start: normal behind a batch norm, positive elsewhere."""
    radius, fan_in = part.layer.radius, part.patch
    if part.layer.batch_norm:
        return torch.randn(part.weight_shape, generator=generator) * (radius / fan_in**0.5)
    return torch.rand(part.weight_shape, generator=generator) * (3 * radius**2 / fan_in) ** 0.5


def _state(part: Part, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """As after some steps: thresholds of the order of u squared, weak lateral weights."""
    neurons = part.layer.out
    lateral = torch.randn(neurons, neurons, generator=generator) / (10 * neurons)
    found = {
        "target": labels % neurons,
        "threshold": torch.rand(neurons, generator=generator) * part.layer.radius**2,
        "counts": torch.randint(1000, (neurons,), generator=generator).float(),
        "lateral": lateral.fill_diagonal_(0),
    }
    return {name: found[name] for name in part.plasticity.wants}
