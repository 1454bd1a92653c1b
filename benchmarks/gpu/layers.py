"""The layers that the GPU tables are about: the CIFAR-10 net at batch 10 and 100, STL-10 at 32."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.gpu import budget

CIFAR = {f"cifar10-{i}": budget.LAYERS[f"cifar10-{i}"] for i in (1, 2, 3)}
STL = {
    "stl10-1": ((32, 3, 96, 96), (96, 3, 5, 5), 2),
    "stl10-2": ((32, 96, 48, 48), (384, 96, 3, 3), 1),
    "stl10-3": ((32, 384, 24, 24), (1536, 384, 3, 3), 1),
    "stl10-4": budget.LAYERS["stl10-4"],
}
LAYERS = {
    f"{name}@{batch}": ((batch, *x[1:]), w, padding)
    for layers, batches in ((CIFAR, (10, 100)), (STL, (32,)))
    for batch in batches
    for name, (x, w, padding) in layers.items()
}
PRECISIONS = ("tf32", "bfloat16")


def call(layer: str, precision: str, kind: str = "step") -> partial:
    """One ``step``, ``block`` or ``features`` of a layer on meta tensors, images channels last."""
    x, w, padding = LAYERS[layer]
    pool = budget.AVG if layer.startswith(("cifar10-3", "stl10-4")) else budget.MAX
    return budget.on_meta(x, w, padding, precision, kind, pool, last=True)


def nbytes(*tensors: object) -> int:
    return sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
