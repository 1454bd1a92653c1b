"""The launches of a CIFAR-10 run beside those of its layers, on meta tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from softhebb_fast.kernels import classifier
from softhebb_fast.kernels.batch_norm import batch_norm
from softhebb_fast.kernels.gather import gather

IMAGES, BATCH, CLASSES, FEATURES, ROWS = 50000, 10, 10, 24576, 64


def _new(*shape: int, dtype: torch.dtype = torch.float32, last: bool = False) -> torch.Tensor:
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="meta", memory_format=layout)


def norm(dtype: torch.dtype) -> None:
    """Of the second layer's batch."""
    batches = _new(dtype=torch.int64)
    batch_norm(
        _new(BATCH, 96, 16, 16, dtype=dtype, last=True), _new(96), _new(96), batches, 0.1, 1e-5
    )


def batch(images: torch.Tensor, constants: torch.Tensor | None) -> None:
    """The next one, of bytes or of features."""
    labels, order = _new(IMAGES, dtype=torch.int64), _new(IMAGES, dtype=torch.int64)
    gather(images, labels, order, _new(dtype=torch.int64), constants, constants, 0, BATCH)


def probe() -> None:
    """A step of the classifier, and its test."""
    weight, bias, x = _new(1, CLASSES, FEATURES), _new(1, CLASSES), _new(1, IMAGES, FEATURES)
    labels, order = _new(IMAGES, dtype=torch.int64), _new(1, IMAGES, dtype=torch.int64)
    state = classifier.new_state(weight, bias, _new(1, dtype=torch.int64), ROWS, 9, 0.5)
    classifier.step(state, x, order, labels, 0, 0, ROWS, 0.5)
    classifier.judge(weight, bias, x, labels)


CALLS: dict[tuple[str, str], Callable[[], None]] = {
    ("batch_norm", "float32"): lambda: norm(torch.float32),
    ("batch_norm", "bfloat16"): lambda: norm(torch.bfloat16),
    ("batch", "uint8"): lambda: batch(_new(IMAGES, 3, 32, 32, dtype=torch.uint8), None),
    ("batch", "normalised"): lambda: batch(_new(IMAGES, 3, 32, 32, dtype=torch.uint8), _new(3)),
    ("batch", "float32"): lambda: batch(_new(IMAGES, 96, 16, 16, last=True), None),
    ("classifier", "float32"): probe,
}
