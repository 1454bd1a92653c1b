"""The way of an image to a layer, module by module, and what of the image a unit there sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from softhebb_fast.models import SoftHebbNet
from softhebb_fast.nn import (
    Block,
    Dropout,
    HebbianLayer,
    PatchWhitening,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
)
from softhebb_fast.options import pair

CONVOLUTIONS = (SoftHebbConv2d, nn.Conv2d)
SLIDING = (*CONVOLUTIONS, PatchWhitening)  # over images, by windows
LINEAR = (SoftHebbLinear, nn.Linear)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def is_convolution(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of images."""
    return isinstance(layer, CONVOLUTIONS) and not isinstance(layer, SoftHebbConv1d)


def numbered(net: nn.Module) -> dict[int, HebbianLayer]:
    """The SoftHebb layers that are drawn, by what ``plots`` calls their block."""
    if isinstance(net, SoftHebbNet):
        return {i: net.blocks[i].layer for i in net.hebbian_blocks}
    if not isinstance(net, nn.Sequential):
        return {}
    return dict(enumerate(part for part in _parts(net) if isinstance(part, HebbianLayer)))


def path_to(net: nn.Module, block: int) -> list[nn.Module]:
    """The modules that an image passes, up to the layer of that block.

    Raises ValueError if there is no such layer.
    """
    if isinstance(net, SoftHebbNet):
        stack, layers = list(net.blocks), {i: b.layer for i, b in enumerate(net.blocks)}
    else:
        stack, layers = list(net), numbered(net)
    if block not in layers:
        raise ValueError(f"block must be one of {', '.join(map(str, layers))}; got {block}")
    path = list(_parts(stack))
    return path[: 1 + next(i for i, part in enumerate(path) if part is layers[block])]


def filters_of(net: nn.Module, block: int) -> Tensor:
    """The weight of the layer of that block as it meets what is below: whitening is part of it."""
    *below, layer = path_to(net, block)
    weight = layer.weight.detach()
    before = [part for part in below if not isinstance(part, (Dropout, nn.Dropout))][-1:]
    if before and isinstance(before[0], PatchWhitening):
        weight, _ = before[0].folded(weight)
    return weight


def field_of(path: list[nn.Module]) -> tuple[int, int]:
    """Rows and columns of the image that a unit at the end of ``path`` sees."""
    size, jump = [1, 1], [1, 1]
    for part in path:
        if not isinstance(part, SLIDING + POOLS):
            continue
        kernel, stride = pair(part.kernel_size, "kernel_size"), pair(part.stride, "stride")
        dilation = pair(getattr(part, "dilation", 1), "dilation")
        for i in range(2):
            size[i] += (kernel[i] - 1) * dilation[i] * jump[i]
            jump[i] *= stride[i]
    return size[0], size[1]


@contextmanager
def unpadded(path: list[nn.Module]) -> Iterator[None]:
    """Take the padding of convolutions and pools away for a while."""
    kept = [(part, part.padding) for part in path if isinstance(part, SLIDING + POOLS)]
    modes = [(part, part.padding_mode) for part, _ in kept if hasattr(part, "padding_mode")]
    try:
        for part, _ in kept:
            part.padding = (0, 0) if isinstance(part, SLIDING) else 0
        for part, _ in modes:
            part.padding_mode = "zeros"  # nn.Conv2d would go on padding in another mode
        yield
    finally:
        for part, padding in kept:
            part.padding = padding
        for part, mode in modes:
            part.padding_mode = mode


def _parts(modules: nn.Module | list[nn.Module]) -> Iterator[nn.Module]:
    """``modules``, blocks and stacks among them taken apart."""
    for module in modules:
        if isinstance(module, Block):
            own = (module.norm, module.layer, module.activation, module.pool)
            yield from _parts([part for part in own if part is not None])
        elif type(module) is nn.Sequential:
            yield from _parts(module)
        else:
            yield module
