"""Temperatures of their own for blocks side by side: each sees its input scaled.

A layer has one inverse temperature t. Where a block wants t' = c t, its input is multiplied by c:
softmax(t c u) is its competition. Its D is c times as large then, which dividing by the largest
magnitude takes away again; u is divided by c before the activation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softhebb_fast.nn.hebbian import HebbianConv2d
from softhebb_fast.nn.layer import HebbianLayer


class ChannelScale(nn.Module):
    """``x [B, C, H, W]`` times a factor for every channel, in the dtype of x."""

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factors.to(x.dtype).view(-1, 1, 1)


class ScaledBatchNorm(nn.BatchNorm2d):
    """A batch norm without affine parameters whose channels are multiplied by ``factors`` then."""

    factors: Tensor

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, factors: Tensor) -> ScaledBatchNorm:
        """``norm``, whose buffers it takes over, and ``factors`` of its channels."""
        options = norm.eps, norm.momentum, False, norm.track_running_stats
        same = cls(norm.num_features, *options, device="meta")
        for name, buffer in norm.named_buffers():
            setattr(same, name, buffer)
        same.register_buffer("factors", factors, persistent=False)
        return same

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.factors.to(x.dtype).view(-1, 1, 1)


def scales(layers: Sequence[HebbianLayer]) -> list[float]:
    """By what the input of each layer is multiplied if all have the largest inverse temperature.

    Raises ValueError where an input that is scaled would change more than the competition.
    """
    if not uses_temperature(layers[0]):
        return [1.0] * len(layers)
    inverse = [layer.t_invert for layer in layers]
    first, different = layers[0], len(set(inverse)) > 1
    if different and first.bias is not None:
        raise ValueError(
            "layer.bias must be None in blocks that differ in t_invert: it would not be scaled"
        )
    if different and type(first) is HebbianConv2d and not _scale_free(first):
        raise ValueError(
            "blocks must agree in layer.t_invert to stand side by side, but for a rule with "
            f"gain='product' and normalise='max' that has no decay; got {inverse}"
        )
    dtype = first.weight.dtype
    most = torch.finfo(dtype).tiny ** -0.5  # what is scaled less still has room below it
    if max(inverse) > most * min(inverse):
        raise ValueError(
            f"layer.t_invert must be at most {most:.3g} times another block's in {dtype} to stand "
            f"side by side; got {inverse}"
        )
    return [t / max(inverse) for t in inverse]


def uses_temperature(layer: HebbianLayer) -> bool:
    """Whether the layer's neurons compete by a softmax."""
    by_rule = type(layer) is HebbianConv2d and layer.named_rule().activity != "competition"
    return layer.competition.soft and not by_rule


def scaled(
    norm: nn.Module | None,
    activation: nn.Module | None,
    factors: Sequence[float],
    layer: HebbianLayer,
) -> tuple[nn.Module, nn.Module]:
    """The norm before and the activation behind the joint ``layer``, of blocks so scaled."""
    like = {
        "dtype": torch.promote_types(layer.weight.dtype, torch.float32),
        "device": layer.weight.device,
    }
    each = torch.tensor(factors, dtype=torch.float64)
    before = each.repeat_interleave(layer.in_channels // len(factors)).to(**like)
    behind = each.reciprocal().repeat_interleave(layer.out_channels // len(factors)).to(**like)
    if type(norm) is nn.BatchNorm2d:
        norm = ScaledBatchNorm.of(norm, before)
    else:
        norm = in_turn(norm, ChannelScale(before))
    return norm, in_turn(ChannelScale(behind), activation)


def in_turn(*modules: nn.Module | None) -> nn.Module:
    """Those of ``modules`` that are not None, one after the other."""
    given = [module for module in modules if module is not None]
    return given[0] if len(given) == 1 else nn.Sequential(*given)


def _scale_free(layer: HebbianConv2d) -> bool:
    rule = layer.named_rule()
    return (rule.gain, rule.normalise, rule.decay) == ("product", "max", 0)
