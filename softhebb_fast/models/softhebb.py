"""Networks built from presets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from softhebb_fast.checks import output_size
from softhebb_fast.init import Init, needs_bias, per_layer
from softhebb_fast.models.readout import Readout, Selection
from softhebb_fast.models.views import AS_IT_IS, Views
from softhebb_fast.nn import (
    Block,
    Dropout,
    HebbianConv2d,
    HebbianLinear,
    PatchWhitening,
    RePU,
    SoftHebbConv2d,
    SoftHebbLinear,
    Softmax,
    SplitTriangle,
    TopShare,
    Triangle,
    UnitLength,
)
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.presets import TAUGHT, Layer, Pool, Preset, as_preset
from softhebb_fast.scalars import whole

ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "triangle": Triangle,
    "repu": RePU,
    "softmax": Softmax,
    "topshare": TopShare,
    "split": SplitTriangle,
    "relu": lambda _: nn.ReLU(),
    "tanh": lambda _: nn.Tanh(),
}


class SoftHebbNet(nn.Module):
    """A stack of blocks and a head: ``head(blocks(x))``.

    Attributes:
        preset: what it was built from.
        blocks: one ``Block`` for every layer of the preset but the last.
        head: flatten, dropout and a linear layer that gives the logits ``[B, classes]``.
        readout: what the head sees, if it is not the last block alone.
        views: what an image is seen as in evaluation mode; its logits are the mean over them.
    """

    blocks: nn.ModuleList
    head: nn.Sequential
    readout: Readout | None
    views: Views

    def __init__(
        self,
        preset: Preset,
        blocks: nn.ModuleList | list[Block],
        head: nn.Sequential,
        readout: Readout | None = None,
        views: Views = AS_IT_IS,
    ) -> None:
        super().__init__()
        self.preset = preset
        self.blocks = blocks if isinstance(blocks, nn.ModuleList) else nn.ModuleList(blocks)
        self.head, self.readout, self.views = head, readout, views

    @property
    def below_head(self) -> list[nn.Module]:
        """What images pass before the head."""
        return list(self.blocks) if self.readout is None else [self.readout]

    def forward(self, x: Tensor) -> Tensor:
        """The logits ``[B, classes]`` of images ``x [B, C, H, W]``, or of one ``[C, H, W]``."""
        if isinstance(x, Tensor) and x.dim() == 3:
            return self(x.unsqueeze(0)).squeeze(0)
        if self.training or not self.views.several:
            return self._logits(x)
        return sum(map(self._logits, self.views(x))) / len(self.views)

    def _logits(self, x: Tensor) -> Tensor:
        for module in self.below_head:
            x = module(x)
        return self.head(x)

    @property
    def hebbian_blocks(self) -> list[int]:
        """The indices of the blocks that learn by the Hebbian rule."""
        return [i for i, block in enumerate(self.blocks) if isinstance(block.layer, HebbianLayer)]


def build(
    preset: Preset | str | Sequence[str],
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    init: Init | Sequence[Init] | Mapping[int, Init] | None = None,
    tie_rule: str = "first",
    backend: str = "auto",
    features: Selection | None = None,
    views: Views = AS_IT_IS,
) -> SoftHebbNet:
    """The network of ``preset`` for images ``(C, H, W)``, on the CPU, in float32.

    Weights are drawn from torch's global generator in the order of the layers, as published.

    Args:
        preset: a preset, the name of one, or layer strings.
        image_shape: C, H and W.
        num_classes: outputs of a last layer that leaves them open.
        init: for the Hebbian layers: one for all, a list with one each, or a dict from layer
            number to init (see ``init.per_layer``). None is the published rule: ``"normal"``
            for layers behind a batch norm or a whitening, ``"positive"`` for the others. Layers
            that start from data wait for ``nn.initialise_from``.
        tie_rule, backend: of the Hebbian layers, as ``functional.softhebb_conv2d`` takes them.
        features: what the classifier sees; None for the whole output of the last layer below it.
        views: what tests see an image as; they take the mean of the scores.

    Raises:
        TypeError: a preset, shape or number of classes of another kind.
        ValueError: images too small for the network, an unknown init or activation, features that
            there are not.
        RuntimeError: a layer that does not fit into memory.
    """
    preset, image_shape = as_preset(preset), checked_shape(image_shape)
    num_classes = whole("num_classes", num_classes, least=1)
    if not isinstance(views, Views):
        raise TypeError(f"views must be a Views; got {views!r}")
    if features is not None and not isinstance(features, Selection):
        raise TypeError(f"features must be a Selection or None; got {features!r}")
    views.check(*image_shape[1:])
    *body, last = preset.layers
    hebbian = [i for i, layer in enumerate(body) if layer.hebbian]
    inits = dict(zip(hebbian, _inits(init, [body[i] for i in hebbian]), strict=True))
    shape, blocks, shapes = image_shape, nn.ModuleList(), []
    for i, layer in enumerate(body):
        options = {"init": inits.get(i), "tie_rule": tie_rule, "backend": backend}
        where = f"layer {i} of {preset.name}"
        _check_taught(layer, layer.out, num_classes, where)
        with _in_memory(f"{where}, of {layer.out} neurons,"):
            block, shape = _block(layer, shape, options, where)
        blocks.append(block)
        shapes.append(shape)
    readout = None if features is None else Readout(blocks, shapes, features)
    width = math.prod(shape) if readout is None else readout.features
    with _in_memory(f"the last layer of {preset.name}, of {width} inputs,"):
        head = _head(last, width, num_classes, backend)
    return SoftHebbNet(preset, blocks, head, readout, views)


@contextmanager
def _in_memory(what: str) -> Iterator[None]:
    """Name ``what`` is made where torch finds no memory for it."""
    try:
        yield
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise RuntimeError(f"{what} does not fit into memory: {error}") from error


def checked_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """``image_shape`` as (C, H, W) in ints. Raises TypeError or ValueError."""
    ordered = isinstance(image_shape, Sequence) and not isinstance(image_shape, str)
    if not (ordered or hasattr(image_shape, "tolist")) or len(image_shape) != 3:
        raise TypeError(f"image_shape must be (C, H, W); got {image_shape!r}")
    names = ("channels", "height", "width")
    return tuple(whole(*size, least=1) for size in zip(names, image_shape, strict=True))


def _inits(
    init: Init | Sequence[Init] | Mapping[int, Init] | None, layers: list[Layer]
) -> list[Init]:
    if init is None:
        return [_published_init(layer) for layer in layers]
    return per_layer(init, len(layers))


def _published_init(layer: Layer) -> str:
    return "normal" if layer.batch_norm or layer.whiten else "positive"


def _block(
    layer: Layer, shape: tuple[int, int, int], options: dict, where: str
) -> tuple[Block, tuple[int, int, int]]:
    channels, *size = shape
    if layer.kind == "linear":
        features = shape[0] * shape[1] * shape[2]
        product = (
            _hebbian(layer, (features, layer.out), options)
            if layer.hebbian
            else nn.Linear(features, layer.out)
        )
        block = Block(
            product,
            norm=_sequence(nn.Flatten(), _unit_length(layer), _dropout(layer)),
            activation=_activation(layer),
        )
        return block, (layer.channels, 1, 1)
    if layer.padding_mode == "reflect" and layer.padding >= min(size):
        raise ValueError(
            f"image_shape is too small: at {where} the map is {size[0]}x{size[1]} and cannot be "
            f"reflected by padding={layer.padding}; use larger images"
        )
    size = _after(size, layer.kernel, layer.stride, layer.padding, layer.dilation, where)
    norm, geometry = _geometry(layer, channels)
    if layer.hebbian:
        own = {"padding_mode": layer.padding_mode, "pre_triangle": layer.pre_triangle}
        product = _hebbian(layer, geometry, {**own, **options})
    else:
        product = nn.Conv2d(*geometry, bias=layer.bias, padding_mode=layer.padding_mode)
    if layer.pool is not None:
        size = _after(size, layer.pool.kernel, layer.pool.stride, layer.pool.padding, 1, where)
    block = Block(
        product,
        norm=_sequence(norm, _dropout(layer)),
        activation=_activation(layer),
        pool=_pool(layer.pool),
    )
    return block, (layer.channels, *size)


def _unit_length(layer: Layer) -> UnitLength | None:
    return UnitLength() if layer.unit_length else None


def _geometry(layer: Layer, channels: int) -> tuple[nn.Module | None, tuple[int, ...]]:
    """What normalises a convolution's input, and the convolution's channels, kernel and so on.

    Whitened patches are one position each: the whitening has the kernel.
    """
    window = layer.kernel, layer.stride, layer.padding
    if layer.whiten is None:
        norm = nn.BatchNorm2d(channels, affine=False) if layer.batch_norm else None
        return norm, (channels, layer.out, *window, layer.dilation, layer.groups)
    options = asdict(layer.whiten) | {"padding_mode": layer.padding_mode}
    del options["images"]
    norm = PatchWhitening(channels, *window, **options)
    return norm, (norm.out_channels, layer.out, 1)


def whitening(block: nn.Module) -> PatchWhitening | None:
    """The whitening of a block, None if it has none."""
    parts = () if block.norm is None else block.norm.modules()
    return next((part for part in parts if isinstance(part, PatchWhitening)), None)


def _hebbian(layer: Layer, geometry: tuple, options: dict) -> HebbianLayer:
    """The layer; biases that it has for the sake of its initialisation alone stay as drawn."""
    options = {**_learning(layer), **options}
    options["bias"] = layer.bias or needs_bias(options["init"])
    if layer.wta == layer.rule:  # SoftHebb
        kind = SoftHebbConv2d if layer.kind == "conv" else SoftHebbLinear
        product = kind(*geometry, wta=layer.wta, **options)
    else:
        kind = HebbianConv2d if layer.kind == "conv" else HebbianLinear
        product = kind(*geometry, rule=layer.rule, wta=layer.wta, **options)
    if product.bias is not None and not layer.bias:
        product.bias.requires_grad_(False)
    return product


def _learning(layer: Layer) -> dict:
    return {
        "t_invert": layer.t_invert,
        "delta": layer.delta,
        "rank": layer.rank,
        "lebesgue_p": layer.lebesgue_p,
        "radius": layer.radius,
        "lr": layer.lr,
        "lr_power": layer.lr_power if layer.schedule == "norm" else 0.0,
        "update": "in_place",
    }


def _head(layer: Layer, features: int, num_classes: int, backend: str) -> nn.Sequential:
    out = num_classes if layer.out is None else layer.out
    if layer.kind != "linear":
        raise ValueError(f"the last layer of a preset must be linear; got {layer.kind!r}")
    if layer.rule in ("supervised", *TAUGHT):
        options = {"init": _published_init(layer), "backend": backend}
        _check_taught(layer, out, num_classes, "the last layer of a preset")
        rule = "soft" if layer.rule == "supervised" else layer.rule
        linear = _hebbian(replace(layer, rule=rule, out=out), (features, out), options)
    elif layer.rule == "bp":
        linear = nn.Linear(features, out)
    else:
        raise ValueError(
            f"the last layer of a preset must learn from labels, 'bp', 'supervised', "
            f"{', '.join(map(repr, TAUGHT))}; got {layer.rule!r}"
        )
    return nn.Sequential(nn.Flatten(), Dropout(layer.dropout), linear)


def _check_taught(layer: Layer, out: int, num_classes: int, where: str) -> None:
    if layer.rule in TAUGHT and out != num_classes:
        raise ValueError(
            f"{where} learns labels by the rule {layer.rule!r} and must have a neuron a class, "
            f"{num_classes}; got {out}"
        )


def _after(
    size: list[int], kernel: int, stride: int, padding: int, dilation: int, where: str
) -> list[int]:
    after = output_size(tuple(size), (kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    if min(after) < 1:
        raise ValueError(
            f"image_shape is too small: at {where} the map is {size[0]}x{size[1]} "
            f"and the window {kernel}x{kernel} leaves nothing; use larger images"
        )
    return list(after)


def _activation(layer: Layer) -> nn.Module | None:
    if layer.activation is None:
        return None
    name, parameter = layer.activation
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name](parameter)


def _pool(pool: Pool | None) -> nn.Module | None:
    if pool is None:
        return None
    kind = nn.MaxPool2d if pool.kind == "max" else nn.AvgPool2d
    return kind(pool.kernel, pool.stride, pool.padding)


def _dropout(layer: Layer) -> nn.Module | None:
    return Dropout(layer.dropout) if layer.dropout else None


def _sequence(*modules: nn.Module | None) -> nn.Module | None:
    present = [m for m in modules if m is not None]
    return present[0] if len(present) == 1 else nn.Sequential(*present) if present else None


@torch.no_grad()
def features(blocks: list[nn.Module], x: Tensor) -> Tensor:
    """``x`` through ``blocks``, one after the other, without a graph."""
    for block in blocks:
        x = block(x)
    return x


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put ``module`` into evaluation mode, and every part of it back into its own mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
