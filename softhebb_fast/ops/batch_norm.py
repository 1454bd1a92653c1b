"""The operator ``batch_norm``: normalisation in training, two Triton launches on CUDA tensors.

torch's own takes three or four, and at the published batch of 10 launches decide the time. It has
no gradient: a block uses it where none is wanted.
"""

from __future__ import annotations

from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.extension import LIBRARY, call

LIBRARY.define(
    "batch_norm(Tensor x, Tensor(a!)? mean, Tensor(b!)? var, Tensor(c!)? batches, float momentum, "
    "float eps) -> Tensor"
)


def _plain(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    batches: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    if batches is not None:
        batches.add_(1)
    return F.batch_norm(x, mean, var, training=True, momentum=momentum, eps=eps)


def _triton(x: Tensor, *rest: Tensor | float | None) -> Tensor:
    return import_module("softhebb_fast.kernels.batch_norm").batch_norm(x, *rest)


LIBRARY.impl("batch_norm", _plain, "CompositeExplicitAutograd")
LIBRARY.impl("batch_norm", _triton, "CUDA")
torch.library.register_fake(
    "softhebb_fast::batch_norm", lambda x, *rest: torch.empty_like(x), lib=LIBRARY
)


@torch.no_grad()
def batch_norm(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    batches: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """``x [B, C, H, W]``, its channels contiguous, normalised over its batch.

    float32, float16 or bfloat16. ``mean`` and ``var``, float32 ``[C]`` running statistics, move by
    ``momentum``, and ``batches``, int64, counts one more; all three or none.
    """
    return call.batch_norm(x, mean, var, batches, momentum, eps)
