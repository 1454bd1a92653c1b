"""What Python must do at every step of a schedule: ``torch.compile`` would make it a constant.

A file of its own, because ``torch.compiler.disable`` loads the compiler.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.compiler.disable
def rate(layer: nn.Module) -> Tensor:
    """The rate of the layer's next step as a tensor beside its weight."""
    return torch.tensor(layer.scheduled(), dtype=torch.float64, device=layer.weight.device)


@torch.compiler.disable
def count(layer: nn.Module) -> None:
    """Count a step of the layer."""
    layer.steps += 1
