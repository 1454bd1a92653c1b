"""The launches of a CIFAR-10 run beside those of its layers, on meta tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from softhebb_fast.kernels import classifier
from softhebb_fast.kernels.batch_norm import batch_norm
from softhebb_fast.kernels.gather import gather

IMAGES, BATCH, FEATURES, ROWS = 50000, 10, 24576, 64
CLASSES = (10, 20, 50, 100)  # one of each configuration of the classifier


def _new(*shape: int, dtype: torch.dtype = torch.float32, last: bool = False) -> torch.Tensor:
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="meta", memory_format=layout)


def norm(dtype: torch.dtype = torch.float32) -> None:
    """Of the second layer's batch."""
    batches = _new(dtype=torch.int64)
    batch_norm(
        _new(BATCH, 96, 16, 16, dtype=dtype, last=True), _new(96), _new(96), batches, 0.1, 1e-5
    )


def batch(images: torch.Tensor, constants: torch.Tensor | None) -> None:
    """The next one, of bytes or of features."""
    labels, order = (_new(len(images), dtype=torch.int64) for _ in range(2))
    gather(images, labels, order, _new(dtype=torch.int64), constants, constants, 0, BATCH)


def batch_of_features(images: int = IMAGES) -> None:
    """The next one of the second layer."""
    batch(_new(images, 96, 16, 16, last=True), None)


def probe(classes: int = 10, members: int = 1, images: int = IMAGES) -> None:
    """A step of so many classifiers, and their test."""
    weight, bias = _new(members, classes, FEATURES), _new(members, classes)
    x, order = _new(members, images, FEATURES), _new(members, images, dtype=torch.int64)
    labels, seeds = _new(images, dtype=torch.int64), _new(members, dtype=torch.int64)
    state = classifier.new_state(weight, bias, seeds, ROWS, 9, 0.5)
    classifier.step(state, x, order, labels, 0, 0, ROWS, 0.5)
    classifier.judge(weight, bias, x, labels)


CALLS: dict[tuple[str, str], Callable[[], None]] = {
    ("batch_norm", "float32"): norm,
    ("batch_norm", "bfloat16"): lambda: norm(torch.bfloat16),
    ("batch", "uint8"): lambda: batch(_new(IMAGES, 3, 32, 32, dtype=torch.uint8), None),
    ("batch", "normalised"): lambda: batch(_new(IMAGES, 3, 32, 32, dtype=torch.uint8), _new(3)),
    ("batch", "float32"): batch_of_features,
    **{(f"classifier-{n}", "float32"): partial(probe, n) for n in CLASSES},
}
