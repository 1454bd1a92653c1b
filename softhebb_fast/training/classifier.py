"""Learning and judging with labels: steps of a classifier, and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast import functional
from softhebb_fast.data import batches
from softhebb_fast.models import evaluation_mode, features
from softhebb_fast.nn import HebbianLinear, SoftHebbLinear
from softhebb_fast.nn.folding import folded_once
from softhebb_fast.training.features import Samples, images_at_once
from softhebb_fast.training.ranks import ALONE, Ranks
from softhebb_fast.training.ridge import squared_error


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")


# What tests measure beside the accuracy: the sum over a batch.
ERRORS = {"loss": _cross_entropy, "squared_error": squared_error}


def _in_bfloat16(device: torch.device) -> torch.autocast:
    # Weights that a cache had converted before, a CUDA graph would keep.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def supervised_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    labels: Tensor,
    autocast: bool = False,
    reduction: str = "mean",
) -> tuple[Tensor, Tensor]:
    """One step of cross-entropy descent; returns the batch's loss sum and its correct answers.

    With ``autocast`` the model is run in bfloat16, as ``torch.autocast`` does. ``reduction`` is
    that of the loss whose gradient is taken, "mean" or "sum".
    """
    with _in_bfloat16(x.device) if autocast else nullcontext():
        logits = model(x)
        loss = F.cross_entropy(logits, labels, reduction=reduction)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        total = loss.detach() * (len(labels) if reduction == "mean" else 1)
        return total, (logits.argmax(dim=1) == labels).sum()


def shared_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    labels: Tensor,
    images: int,
    ranks: Ranks,
    autocast: bool = False,
) -> tuple[Tensor, Tensor]:
    """``supervised_step`` on a batch of so many ``images``, of which each of ``ranks`` has a part.

    Loss, correct answers and gradients of the parts, sums over their images, travel together.
    """
    with _in_bfloat16(x.device) if autocast else nullcontext():
        logits = model(x)
        loss = F.cross_entropy(logits, labels, reduction="sum")
    optimizer.zero_grad(set_to_none=True)
    (loss / images).backward()
    with torch.no_grad():
        loss, correct = loss.detach(), (logits.argmax(dim=1) == labels).sum()
        learned = (p.grad for group in optimizer.param_groups for p in group["params"])
        ranks.add_([loss, correct, *(gradient for gradient in learned if gradient is not None)])
    optimizer.step()
    return loss, correct


@torch.no_grad()
def hebbian_label_step(
    model: nn.Sequential, lr: float, x: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of the supervised Hebbian classifier: the target takes the place of the winner.

    ``model`` ends in a ``SoftHebbLinear``, which must be in evaluation mode, or in a
    ``HebbianLinear`` that learns from ``labels`` as its target at its own rate. Returns what
    ``supervised_step`` returns, of a part of a batch that of the part.

    Source: Journé et al. 2023, appendix; the published supervised competition.
    """
    layer: SoftHebbLinear = model[-1]
    inputs = features(list(model[:-1]), x)
    if isinstance(layer, HebbianLinear):
        u = layer(inputs, target=labels)
    else:
        u = layer(inputs)
        target = F.one_hot(labels, layer.out_features).to(u.dtype)
        group = layer.processes.group if layer.processes else None
        delta_w = functional.hebbian_update(inputs, target, u, layer.weight, process_group=group)
        functional.hebbian_step_(layer.weight, delta_w, lr, layer.lr_power, layer.lebesgue_p)
    loss = F.cross_entropy(u, labels, reduction="sum")
    return loss, (u.argmax(dim=1) == labels).sum()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    source: Samples,
    batch_size: int = 1000,
    error: str = "loss",
    ranks: Ranks = ALONE,
) -> tuple[float, float]:
    """Mean error of an image and accuracy in per cent of ``model``, in evaluation mode.

    ``error`` is ``"loss"``, the cross-entropy, or ``"squared_error"`` of the scores, summed over
    the classes. Images that are too many at once for wide layers are taken in smaller batches.
    Each of ``ranks`` takes some of the batches.

    Raises ValueError for an empty set or one without labels.
    """
    if len(source) == 0 or bool((source.labels < 0).any()):
        raise ValueError("source must hold labelled samples to be evaluated on")
    loss = correct = torch.zeros((), dtype=torch.float64, device=source.device)
    with evaluation_mode(model), folded_once():
        batch_size = images_at_once([model], source.batch(slice(0, 1))[0], batch_size)
        for i in ranks.turns(-(-len(source) // batch_size)):
            x, labels = next(batches(source, batch_size, start_batch=i))
            logits = model(x)
            loss = loss + ERRORS[error](logits, labels)
            correct = correct + (logits.argmax(dim=1) == labels).sum()
    loss, correct = ranks.total(torch.stack([loss, correct]))
    return float(loss) / len(source), 100 * float(correct) / len(source)


@torch.no_grad()
def neuron_accuracy(
    layer: nn.Module, train: Samples, test: Samples, classes: int, batch_size: int = 1000
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
    layer: nn.Module, source: Samples, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    with evaluation_mode(layer):
        for x, labels in batches(source, batch_size):
            yield layer(x), labels
