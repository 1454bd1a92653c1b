"""ConstNet, whose channels may all start equal, and LeakyNet, its relative without skips."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast.init import averaging_
from softhebb_fast.models.parts import dropped, groups, zero_head
from softhebb_fast.nn import Dropout

GROUPS, BLOCKS = 3, 4
SLOPE = 0.01
CODES = "i1h"
PATTERN = "h" * (1 + GROUPS * BLOCKS)


class ConstBlock(nn.Module):
    """``skip(x) + conv(relu(norm(x)))``; [B, C, H, W] to [B, out, H / stride, W / stride].

    Where the width changes the skip is a 1x1 convolution of norm(x), else x itself.
    """

    norm: nn.BatchNorm2d
    conv: nn.Conv2d
    skip: nn.Conv2d | None
    dropout: Dropout

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        same = inputs == outputs and stride == 1
        self.skip = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x)
        branch = self.dropout(self.conv(F.relu(normal)))
        return branch + (x if self.skip is None else self.skip(normal))


def constnet(
    image_shape: tuple[int, int, int], classes: int, widen: int = 10, dropout: float = 0.0
) -> nn.Sequential:
    """The network of ConstNet (Blumenfeld, Gilboa, Soudry 2020), with its standard start.

    A 3x3 stem of 16 channels; three groups of four blocks of 16, 32 and 64 times ``widen``
    channels, the latter two of half the map each; ReLU, the mean over the map, a head of zeros.
    Weights are Gaussian, of the variance 1/(9 K), 2/(9 K) and 1/K in the stem, the blocks and the
    skips of K channels. `init.apply(model, "constant")` makes it ConstNet.

    Args:
        dropout: on the output of every branch, element by element.
    """
    channels = 16
    layers: list[nn.Module] = [nn.Conv2d(image_shape[0], channels, 3, 1, 1, bias=False)]
    for outputs, stride in groups([BLOCKS] * GROUPS, widen * 16):
        layers.append(ConstBlock(channels, outputs, stride, dropout))
        channels = outputs
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            _gaussian(layer, 1.0)
            continue
        _gaussian(layer.conv, 2.0)
        if layer.skip is not None:
            _gaussian(layer.skip, 1.0)
    return nn.Sequential(*layers, nn.ReLU(), *zero_head(channels, classes))


def leakynet(
    image_shape: tuple[int, int, int],
    classes: int,
    widen: int = 10,
    codes: str = PATTERN,
    dropout: float = 0.0,
) -> nn.Sequential:
    """LeakyNet (Blumenfeld, Gilboa, Soudry 2020): the convolutions of `constnet` without its skips.

    Leaky ReLU of the slope 0.01 follows each of 13 convolutions. Behind the stem they come in
    pairs; the weights of the second of a pair are multiplied by -1/0.01, so that two identities
    compose to exactly -x, and a batch norm follows it.

    Args:
        codes: how each convolution starts, the stem first: "i" copies channel k mod C to neuron k,
            "1" averages the channels, "h" is Gaussian of the variance 2/(9 K). Underscores may
            part the groups.

    Raises ValueError for other codes, or not 13 of them.
    """
    chosen = codes.replace("_", "")
    if len(chosen) != len(PATTERN) or set(chosen) - set(CODES):
        raise ValueError(f"codes must be {len(PATTERN)} of {', '.join(CODES)}; got {codes!r}")
    channels, layers = 16, [nn.Conv2d(image_shape[0], 16, 3, 1, 1, bias=False)]
    _coded(layers[0], chosen[0], 1.0)
    layers.append(nn.LeakyReLU(SLOPE))
    sizes = groups([BLOCKS] * GROUPS, widen * 16)
    for i, (code, (outputs, stride)) in enumerate(zip(chosen[1:], sizes, strict=True)):
        conv = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        _coded(conv, code, -1 / SLOPE if i % 2 else 1.0)
        layers += [conv, nn.LeakyReLU(SLOPE)]
        layers += [nn.BatchNorm2d(outputs)] if i % 2 else []
        layers += dropped(dropout)
        channels = outputs
    return nn.Sequential(*layers, *zero_head(channels, classes))


@torch.no_grad()
def _gaussian(conv: nn.Conv2d, gain: float) -> None:
    """Of the variance gain / (taps · K)."""
    taps = conv.kernel_size[0] * conv.kernel_size[1]
    conv.weight.normal_(0, (gain / (taps * conv.out_channels)) ** 0.5)


@torch.no_grad()
def _coded(conv: nn.Conv2d, code: str, factor: float) -> None:
    if code == "h":
        _gaussian(conv, 2.0)
    elif code == "1":
        averaging_(conv.weight)
    else:
        neurons = torch.arange(conv.out_channels)
        conv.weight.zero_()
        conv.weight[neurons, neurons % conv.in_channels, 1, 1] = 1.0
    conv.weight *= factor
