"""ZerO's first residual networks: reversed pre-activation, a skip round every 3x3 convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast.init import partial_identity_, zeros_
from softhebb_fast.init.hadamard import hadamard_signs
from softhebb_fast.models.parts import NORMS, OpenReLU, choose, groups, zero_head

EXPANSION = 4  # of a bottleneck


class Hadamard(nn.Module):
    """A fixed 1x1 convolution by the orthonormal Hadamard matrix of n channels, a power of two."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels & (channels - 1):
            raise ValueError(f"width must make all channels powers of two; got {channels} channels")
        index = torch.arange(channels)
        matrix = hadamard_signs(index, index) / math.sqrt(channels)
        self.register_buffer("weight", matrix.view(channels, channels, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


class Padded(nn.Module):
    """[B, C, H, W] with channels of zeros added up to ``channels``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


class Skipped(nn.Module):
    """``branch(x) + skip(x)``."""

    def __init__(self, branch: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.branch: nn.Module = branch
        self.skip: nn.Module = skip

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.skip(x)


def zero_resnet(
    image_shape: tuple[int, int, int],
    classes: int,
    blocks: Sequence[int] = (2, 2, 2, 2),
    width: int = 64,
    bottleneck: bool = False,
    norm: str = "batch",
    stem_stride: int = 1,
) -> nn.Sequential:
    """The network that came with ZerO's first version (Zhao, Schäfer, Anandkumar 2021), started.

    Every convolution follows ReLU and norm, in this order; every 3x3 one is zero and has a skip
    round it. Where the width changes, the skip is a 1x1 convolution, a partial identity at the
    start, and a fixed Hadamard matrix. A bottleneck begins with a partial identity and ends with
    zeros. The stem is zero beside the image itself, padded with channels and mixed by a Hadamard
    matrix; the head is zero. The derivative of ReLU at 0 is 1.

    Arguments as `resnet`. Raises ValueError for channels that are no power of two.
    """
    normalise = choose("norm", NORMS, norm)

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
        layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        zeros_(layer.weight)
        return layer

    def ready(layer: nn.Conv2d) -> nn.Sequential:
        return nn.Sequential(OpenReLU(), normalise(layer.in_channels), layer)

    def skip(inputs: int, outputs: int, stride: int) -> nn.Module:
        if (inputs, stride) == (outputs, 1):
            return nn.Identity()
        if inputs == outputs:
            return nn.AvgPool2d(1, stride)
        partial_identity_((layer := conv(inputs, outputs, 1, stride)).weight)
        return nn.Sequential(layer, Hadamard(outputs))

    def block(inputs: int, inner: int, stride: int) -> nn.Sequential:
        if not bottleneck:
            first = Skipped(ready(conv(inputs, inner, 3, stride)), skip(inputs, inner, stride))
            return nn.Sequential(first, Skipped(ready(conv(inner, inner, 3)), nn.Identity()))
        partial_identity_((narrow := conv(inputs, inner, 1)).weight)
        middle = Skipped(ready(conv(inner, inner, 3, stride)), skip(inner, inner, stride))
        outputs = inner * EXPANSION
        branch = nn.Sequential(ready(narrow), middle, ready(conv(inner, outputs, 1)))
        return nn.Sequential(Skipped(branch, skip(inputs, outputs, stride)))

    image = nn.Sequential(Padded(width), nn.AvgPool2d(1, stem_stride), Hadamard(width))
    layers: list[nn.Module] = [Skipped(conv(image_shape[0], width, 3, stem_stride), image)]
    channels = width
    for inner, stride in groups(blocks, width):
        layers.append(block(channels, inner, stride))
        channels = inner * (EXPANSION if bottleneck else 1)
    return nn.Sequential(*layers, OpenReLU(), normalise(channels), *zero_head(channels, classes))
