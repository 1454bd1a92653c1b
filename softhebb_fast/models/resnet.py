"""Residual networks in their standard order, with or without batch norm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from softhebb_fast.models.parts import ACTIVATIONS, NORMS, choose, dropped, groups

EXPANSION = 4  # of a bottleneck


class ResidualBlock(nn.Module):
    """``activation(branch(x) + shortcut(x))``; [B, C, H, W] to [B, out, H / stride, W / stride]."""

    def __init__(self, branch: list[nn.Module], shortcut: list[nn.Module], last: nn.Module) -> None:
        super().__init__()
        self.branch: nn.Sequential = nn.Sequential(*branch)
        self.shortcut: nn.Sequential = nn.Sequential(*shortcut)
        self.activation = last

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.branch(x) + self.shortcut(x))


def resnet(
    image_shape: tuple[int, int, int],
    classes: int,
    blocks: Sequence[int] = (2, 2, 2, 2),
    width: int = 64,
    bottleneck: bool = False,
    norm: str = "batch",
    first_norm: bool = True,
    activation: str = "relu",
    bias: bool = False,
    stem_stride: int = 1,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A residual network (He et al. 2016) with the 3x3 stem of small images.

    ``blocks`` counts the blocks of each group; the channels double from group to group, and all
    but the first halve the map. The defaults are ResNet-18; (3, 4, 6, 3) with ``bottleneck`` is
    ResNet-50, three groups of n blocks of ``width`` 16 the networks of depth 6n + 2. Schicho's
    ResNet-50 has ``bias``, "elu" and no ``first_norm``.

    Args:
        norm: "batch"; "scalar", a learned scale and bias after each convolution; or "none".
        first_norm: whether the first convolution of a block has a norm.
        bias: of the convolutions.
        stem_stride: of the first convolution; 2 halves the maps of the whole network.
        dropout: before the sum of every block, element by element.
    """
    normalise = choose("norm", NORMS, norm)
    kind = choose("activation", ACTIVATIONS, activation)

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)

    def block(inputs: int, inner: int, stride: int) -> ResidualBlock:
        outputs = inner * (EXPANSION if bottleneck else 1)
        if bottleneck:
            convs = [conv(inputs, inner, 1), conv(inner, inner, 3, stride), conv(inner, outputs, 1)]
        else:
            convs = [conv(inputs, inner, 3, stride), conv(inner, inner, 3)]
        branch: list[nn.Module] = []
        for i, one in enumerate(convs):
            branch += [kind()] if i else []
            branch += [one, normalise(one.out_channels)] if i or first_norm else [one]
        branch += dropped(dropout)
        same = stride == 1 and inputs == outputs
        shortcut = [] if same else [conv(inputs, outputs, 1, stride), normalise(outputs)]
        return ResidualBlock(branch, shortcut, kind())

    channels = width
    layers = [conv(image_shape[0], width, 3, stem_stride), normalise(width), kind()]
    for inner, stride in groups(blocks, width):
        layers.append(block(channels, inner, stride))
        channels = inner * (EXPANSION if bottleneck else 1)
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )
