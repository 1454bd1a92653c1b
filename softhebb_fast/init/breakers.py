"""What tells identical filters apart, on top of any initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softhebb_fast.init.common import check_model, check_positive, draw
from softhebb_fast.init.diversity import check_weight


@torch.no_grad()
def noise_(weight: Tensor, scale: float, generator: torch.Generator | None = None) -> Tensor:
    """Add Gaussian noise of about `scale` times each filter's 2-norm.

    Identical features need no more than such a disturbance to part (ConstNet, Blumenfeld et al.
    2020). A filter of zeros stays one.

    Raises ValueError for a scale that is not positive and finite.
    """
    check_weight(weight)
    scale = check_positive("noise", scale)
    filters = weight.flatten(1)
    deviation = torch.linalg.vector_norm(filters, dim=1, keepdim=True)
    deviation *= scale / filters.shape[1] ** 0.5
    disturbance = draw(torch.randn, weight, generator).flatten(1).to(weight)
    return weight.add_((deviation * disturbance).view_as(weight))


@torch.no_grad()
def weight_noise_(
    model: nn.Module, size: float, generator: torch.Generator | None = None
) -> nn.Module:
    """Add N(0, size²) to every weight of `model` of two dimensions or more, zeros included.

    1e-8 to 1e-6 stand in for what non-deterministic arithmetic does to equal channels (ConstNet,
    Blumenfeld et al. 2020). Draws follow the order of the parameters.

    Raises TypeError if `model` is no module, ValueError for a size that is not positive and finite.
    """
    check_model(model)
    size = check_positive("size", size)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.add_(draw(torch.randn, parameter, generator).to(parameter), alpha=size)
    return model


@torch.no_grad()
def random_bias_(
    weight: Tensor,
    bias: Tensor | None,
    distribution: str = "normal",
    scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """All weights zero, the symmetry broken by random biases alone (Schicho 2023).

    `bias` is [K], filled with `scale` times N(0, 1) ("normal") or U[0, 1) ("uniform").

    Raises ValueError without a bias of that shape, for an unknown distribution, or a scale that
    is not positive and finite.
    """
    check_weight(weight)
    draw_bias_(weight, bias, distribution, scale, generator)
    return weight.zero_()


def draw_bias_(
    weight: Tensor,
    bias: Tensor | None,
    distribution: str = "normal",
    scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> None:
    """The biases of `random_bias_`, for weights that have started some other way."""
    scale = check_positive("scale", scale)
    samplers = {"normal": torch.randn, "uniform": torch.rand}
    if distribution not in samplers:
        raise ValueError(f"distribution must be 'normal' or 'uniform'; got {distribution=}")
    if bias is None:
        raise ValueError("bias must be a tensor for 'random_bias', got None; build it with a bias")
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias must have one entry per filter, {weight.shape[0]}; got {tuple(bias.shape)}"
        )
    bias.copy_(draw(samplers[distribution], bias, generator).mul_(scale))
