"""Stacks of modules of one's own, trained layer by layer as the published networks are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from softhebb_fast.data import ImageSet, as_image_set, permutation
from softhebb_fast.models import features
from softhebb_fast.nn import Block, Dropout, HebbianLayer
from softhebb_fast.nn.plain import heard
from softhebb_fast.scalars import at_least_zero, whole
from softhebb_fast.training import metrics, steps
from softhebb_fast.training.config import CACHE_DTYPES
from softhebb_fast.training.features import FeatureSet, Samples
from softhebb_fast.training.figures import Figures
from softhebb_fast.training.finite import Guard
from softhebb_fast.training.inputs import Caching, StageInputs
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.stage import BatchSource, Stage
from softhebb_fast.training.walk import walk

# What computes otherwise while it is trained.
MOVING = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd, Dropout)


class LayerFigures(NamedTuple):
    """What was recorded of layers, as ``plots.plot_run`` takes it.

    Attributes:
        rows: the figures of each layer, ten times an epoch and before the first; see
            ``metrics.layer_metrics``.
        neurons: by layer, counted from 1: the ``epoch`` of the last record, and lists with the
            ``wins``, ``norm`` and ``start_norm`` of its neurons.
    """

    rows: list[MetricsRow]
    neurons: dict[int, dict[str, Any]]


def train_layers(
    net: nn.Sequential,
    images: Any,
    *,
    epochs: int = 1,
    batch_size: int = 10,
    seed: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    cache_dtype: str = "float32",
    cache_gib: float = 8.0,
    reporter: Reporter | None = None,
) -> LayerFigures:
    """Train the Hebbian layers of ``net``, one after the other, each on what those below it give.

        figures = train_layers(net, images)
        plots.plot_run(net, figures.rows, "pictures", recorded=figures.neurons)

    What a layer learns from is computed once and kept, as far as nothing in it changes: a batch
    norm before a layer learns with it. A module with several Hebbian layers trains them in the same
    passes; an ``nn.Sequential`` inside ``net`` is taken apart. All else stays as it is: frozen
    layers, those that learn from a loss, and what follows the last Hebbian layer. ``reporter`` is
    told of those that have weights or statistics. ``net`` is in evaluation mode afterwards.

    Args:
        net: on the device of the images, its Hebbian layers with ``update="in_place"``.
        images: an ``ImageSet``; a float tensor ``[N, ...]``, which needs no labels and no images;
            or what ``data.as_image_set`` takes.
        epochs, batch_size: passes over the images for each layer, and images of a step.
        seed: of the order of the images, in which epoch by epoch every layer sees them.
        optimizer: steps the layers with ``update="grad"``; see ``optim.norm_dependent``.
        cache_dtype, cache_gib: as in ``RunConfig``.

    Raises:
        TypeError: a ``net`` or images of another kind.
        ValueError: a network without a Hebbian layer that learns; layers with ``update="grad"``
            without an optimizer, or an optimizer without such layers; images that are none, not
            finite or elsewhere than ``net``; weights that become infinite or NaN, with the layer
            and the batch.
    """
    if not isinstance(net, nn.Sequential):
        raise TypeError(f"net must be an nn.Sequential; got {type(net).__name__}")
    epochs, batch_size = whole("epochs", epochs, 0), whole("batch_size", batch_size, 1)
    seed, reporter = whole("seed", seed, 0), reporter or Reporter()
    if cache_dtype not in CACHE_DTYPES:
        raise ValueError(
            f"cache_dtype must be one of {', '.join(CACHE_DTYPES)}; got {cache_dtype!r}"
        )
    stack = Stack(net)
    parts = list(_parts(stack))
    _check_updates(parts, optimizer)
    source = _samples(images, parts[0].layers[0].weight.device)
    for line in _left(stack, parts):
        reporter.say(line)
    inputs = StageInputs(
        stack, Caching(cache_dtype, at_least_zero("cache_gib", cache_gib)), reporter
    )
    figures = Figures()
    figures.start_clock()
    for part in parts:
        below = inputs.below(part.first, source, reporter.advance)
        stage = LayerStage(stack, part, below, source, epochs, batch_size, optimizer)
        reporter.begin(stage.title, epochs * len(source))
        guard = Guard(stage.net, stage, partial(permutation, len(source), seed), seed)
        record = partial(figures.record, reporter=reporter)
        for place in walk(stage, steps.runner(stage, reporter.say), guard, record, reporter):
            if not (place.images or place.end):
                reporter.status(f"epoch {place.epoch + 1}/{epochs}")
        reporter.end()
    net.eval()
    return LayerFigures(figures.rows, figures.neurons)


class Stack(nn.Module):
    """The modules of ``net`` in their order, an ``nn.Sequential`` among them taken apart."""

    readout = None

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.blocks: nn.ModuleList = nn.ModuleList(_apart(net))

    @property
    def below_head(self) -> list[nn.Module]:
        return list(self.blocks)


class Part(NamedTuple):
    """What is trained at a time: the Hebbian ``layers`` of the block ``last``, numbered from
    ``number`` on, and what moves with them, from the block ``first`` on."""

    layers: list[HebbianLayer]
    number: int
    first: int
    last: int

    @property
    def title(self) -> str:
        numbers = range(self.number, self.number + len(self.layers))
        return f"layer {', '.join(map(str, numbers))}"


class LayerStage(Stage):
    """The layers of a ``part`` of a stack learn; ``sample`` are the images they are measured on."""

    phase = "hebbian"
    records = 10
    part: Part
    sample: Samples
    optimizer: torch.optim.Optimizer | None
    top: nn.Module
    before: list[nn.Module]

    def __init__(
        self,
        stack: Stack,
        part: Part,
        inputs: BatchSource,
        sample: Samples,
        epochs: int,
        batch_size: int,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        super().__init__(stack, inputs, epochs, batch_size, [])
        self.part, self.sample, self.optimizer = part, sample, optimizer
        *self.before, self.top = stack.blocks[part.first : part.last + 1]
        stack.eval()
        for module in (*self.before, self.top):
            module.train()

    @property
    def title(self) -> str:
        return self.part.title

    @torch.no_grad()
    def learn(self, x: Tensor, labels: Tensor) -> None:
        x = features([*self.inputs.below, *self.before], x)
        if self.optimizer is not None:
            self.optimizer.zero_grad()
        if isinstance(self.top, Block):
            self.top.step_(x)
        else:
            self.top(x)
        if self.optimizer is not None:
            self.optimizer.step()

    def begin(self) -> list[MetricsRow]:
        return self.record(0)

    def record(self, epoch: float) -> list[MetricsRow]:
        through = list(self.net.blocks[: self.part.last + 1])
        measured = metrics.measured_layers(through, self.part.layers, self.sample)
        return [
            {"phase": self.phase, "layer": number, "epoch": epoch, **row}
            for number, row in enumerate(measured, self.part.number)
        ]

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        return self.record(epoch)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.optimizer is None else {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])


def _apart(net: nn.Sequential) -> Iterator[nn.Module]:
    for module in net:
        if type(module) is nn.Sequential and not heard(module):
            yield from _apart(module)
        else:
            yield module


def _parts(stack: Stack) -> Iterator[Part]:
    """What is trained, in turn. Raises ValueError if that is nothing."""
    number, after = 1, 0
    for i, block in enumerate(stack.blocks):
        layers = _hebbian(block)
        if any(layer.weight.requires_grad for layer in layers):
            moving = (j for j in range(after, i) if not _steady(stack.blocks[j]))
            yield Part(layers, number, next(moving, i), i)
        if layers:
            number, after = number + len(layers), i + 1
    if not any(layer.weight.requires_grad for layer in _hebbian(stack)):
        raise ValueError("net must have a SoftHebb layer that is not frozen; got none")


def _hebbian(module: nn.Module) -> list[HebbianLayer]:
    return [part for part in module.modules() if isinstance(part, HebbianLayer)]


def _steady(module: nn.Module) -> bool:
    """Whether a module is known to compute the same in training mode, and to keep its state."""
    return all(
        type(part).__module__.startswith(("torch.nn.", "softhebb_fast.nn."))
        and not isinstance(part, MOVING)
        for part in module.modules()
    )


def _check_updates(parts: list[Part], optimizer: torch.optim.Optimizer | None) -> None:
    by_gradient = [
        part.title for part in parts if any(layer.update == "grad" for layer in part.layers)
    ]
    if by_gradient and optimizer is None:
        raise ValueError(
            f"optimizer must be given for update='grad', of {by_gradient[0]}; or make the layer "
            "with update='in_place' and lr"
        )
    if optimizer is not None and not by_gradient:
        raise ValueError("optimizer is for layers with update='grad'; net has none that learns")


def _samples(images: Any, device: torch.device) -> Samples:
    """``images`` as a stage walks them."""
    if isinstance(images, Tensor):
        if images.dim() < 2 or not images.is_floating_point():
            raise ValueError(
                "images must be a floating point tensor [N, ...]; got "
                f"{images.dtype} {tuple(images.shape)}"
            )
        if not images.isfinite().all():
            raise ValueError("images must be finite; got NaN or infinity")
        labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        images = FeatureSet(images, labels)
    if not isinstance(images, ImageSet | FeatureSet):
        images = as_image_set(images)
    if not len(images):
        raise ValueError("images must hold one at least; got none")
    if images.device != device:
        raise ValueError(f"images must be on the device of net, {device}; got {images.device}")
    return images


def _left(stack: Stack, parts: list[Part]) -> Iterator[str]:
    """What has weights or statistics and stays as it is, a line each."""
    trained = {i for part in parts for i in range(part.first, part.last + 1)}
    for i, block in enumerate(stack.blocks):
        if i not in trained and any(True for _ in (*block.parameters(), *block.buffers())):
            yield f"{type(block).__name__}, module {i + 1} of the network, stays as it is"
