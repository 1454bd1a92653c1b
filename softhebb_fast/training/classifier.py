"""Learning and judging with labels: the classifier on frozen features, and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format

from softhebb_fast import functional
from softhebb_fast.data import ImageSet, batches
from softhebb_fast.models import evaluation_mode, features
from softhebb_fast.nn import SoftHebbLinear

CHUNK = 500


class FeatureSet:
    """Frozen features of a data set: ``images`` ``[N, ...]`` in any dtype, ``labels`` ``[N]``.

    Walked by ``data.batches`` like an ``ImageSet``. Its batches have the memory format of
    ``images``: the order of sums depends on it, and with it the last bits of what follows.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self._last = suggest_memory_format(images) == torch.channels_last

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def device(self) -> torch.device:
        return self.images.device

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Features float32 ``[B, ...]`` and labels of the given rows."""
        images = self.images.movedim(1, -1) if self._last else self.images
        if isinstance(indices, slice):
            x, labels = images[indices].contiguous(), self.labels[indices]
        else:
            x, labels = images.index_select(0, indices), self.labels.index_select(0, indices)
        return (x.movedim(-1, 1) if self._last else x).float(), labels


Source = ImageSet | FeatureSet


def feature_bytes(source: Source, blocks: list[nn.Module], dtype: torch.dtype) -> int:
    """The memory that ``cache_features`` would take."""
    x, _ = source.batch(slice(0, 1))
    return len(source) * features(blocks, x).numel() * dtype.itemsize


@torch.no_grad()
def cache_features(
    source: Source,
    blocks: list[nn.Module],
    dtype: torch.dtype = torch.float32,
    on_batch: Callable[[int], None] = lambda count: None,
    *,
    in_place: bool = False,
) -> FeatureSet:
    """``blocks`` applied to all of ``source``, in order. ``on_batch`` hears of each batch's size.

    The blocks must be in evaluation mode. The batch size is fixed and the memory format is that
    which the blocks give, so that a cache made again after an interruption has the same bits, be
    it made of the images or of a cache below.

    Args:
        in_place: let the features take the place of ``source``, itself a cache that nobody needs
            any more, in its dtype. They must not be more (``fits``).
    """
    images = None
    for i, (x, _) in enumerate(batches(source, CHUNK)):
        x = features(blocks, x)
        if images is None:
            shape, layout = (len(source), *x.shape[1:]), suggest_memory_format(x)
            images = (
                _within(source.images, shape, layout)
                if in_place
                else torch.empty(shape, dtype=dtype, device=x.device, memory_format=layout)
            )
        images[i * CHUNK : i * CHUNK + len(x)] = x
        on_batch(len(x))
    return FeatureSet(images, source.labels)


def fits(source: FeatureSet, blocks: list[nn.Module]) -> bool:
    """Whether the features of ``source`` have room in its place, sample by sample."""
    x, _ = source.batch(slice(0, 1))
    return features(blocks, x).numel() <= x.numel()


def _in_bfloat16(device: torch.device) -> torch.autocast:
    # Weights that a cache had converted before, a CUDA graph would keep.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def _within(images: Tensor, shape: tuple[int, ...], layout: torch.memory_format) -> Tensor:
    row = torch.empty((1, *shape[1:]), device="meta", memory_format=layout)
    return images.as_strided(shape, (images.stride(0), *row.stride()[1:]))


def supervised_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    labels: Tensor,
    autocast: bool = False,
) -> tuple[Tensor, Tensor]:
    """One step of cross-entropy descent; returns the batch's loss sum and its correct answers.

    With ``autocast`` the model is run in bfloat16, as ``torch.autocast`` does.
    """
    with _in_bfloat16(x.device) if autocast else nullcontext():
        logits = model(x)
        loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        return loss.detach() * len(labels), (logits.argmax(dim=1) == labels).sum()


@torch.no_grad()
def hebbian_label_step(
    model: nn.Sequential, lr: float, x: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of the supervised Hebbian classifier: the target takes the place of the winner.

    ``model`` ends in a ``SoftHebbLinear``, which must be in evaluation mode. Returns what
    ``supervised_step`` returns.

    Source: Journé et al. 2023, appendix; the published supervised competition.
    """
    layer: SoftHebbLinear = model[-1]
    inputs = features(list(model[:-1]), x)
    u = layer(inputs)
    target = F.one_hot(labels, layer.out_features).to(u.dtype)
    delta = functional.hebbian_update(inputs, target, u, layer.weight)
    functional.hebbian_step_(layer.weight, delta, lr, layer.lr_power, layer.lebesgue_p)
    loss = F.cross_entropy(u, labels, reduction="sum")
    return loss, (u.argmax(dim=1) == labels).sum()


@torch.no_grad()
def evaluate(model: nn.Module, source: Source, batch_size: int = 1000) -> tuple[float, float]:
    """Mean cross-entropy loss and accuracy in per cent of ``model``, in evaluation mode.

    Raises ValueError for an empty set or one without labels.
    """
    if len(source) == 0 or bool((source.labels < 0).any()):
        raise ValueError("source must hold labelled samples to be evaluated on")
    loss = correct = torch.zeros((), dtype=torch.float64, device=source.device)
    with evaluation_mode(model):
        for x, labels in batches(source, batch_size):
            logits = model(x)
            loss = loss + F.cross_entropy(logits, labels, reduction="sum")
            correct = correct + (logits.argmax(dim=1) == labels).sum()
    return float(loss) / len(source), 100 * float(correct) / len(source)


@torch.no_grad()
def neuron_accuracy(
    layer: nn.Module, train: Source, test: Source, classes: int, batch_size: int = 1000
) -> float:
    """Accuracy in per cent without a trained classifier: the label of the winning neuron.

    ``layer`` maps a batch to pre-activations ``[B, K]``. Each neuron takes the class it wins most
    often on ``train``; one that never wins takes the class with its largest summed activity.

    Source: Journé et al. 2023 (unsupervised evaluation of the perceptrons).
    """
    wins, activity = 0, 0
    for u, labels in _pre_activations(layer, train, batch_size):
        one_hot = F.one_hot(labels, classes).to(u.dtype)
        winner = F.one_hot(u.argmax(dim=1), u.shape[1]).to(u.dtype)
        wins = wins + winner.t() @ one_hot
        activity = activity + torch.softmax(u, dim=1).t() @ one_hot
    label = torch.where(wins.sum(dim=1) > 0, wins.argmax(dim=1), activity.argmax(dim=1))
    correct = sum(
        (label[u.argmax(dim=1)] == labels).sum()
        for u, labels in _pre_activations(layer, test, batch_size)
    )
    return 100 * int(correct) / len(test)


def _pre_activations(
    layer: nn.Module, source: Source, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    with evaluation_mode(layer):
        for x, labels in batches(source, batch_size):
            yield layer(x), labels
