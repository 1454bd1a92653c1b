"""The operator ``gather``: the next batch of a data set, one Triton launch on CUDA tensors."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from softhebb_fast.extension import LIBRARY, call

LIBRARY.define(
    "gather(Tensor images, Tensor labels, Tensor order, Tensor position, Tensor? mean, "
    "Tensor? std, int first, int size) -> (Tensor, Tensor)"
)


def _plain(
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    position: Tensor,
    mean: Tensor | None,
    std: Tensor | None,
    first: int,
    size: int,
) -> tuple[Tensor, Tensor]:
    window = torch.arange(first, first + size, device=order.device)
    index = order.index_select(0, position + window)
    last = suggest_memory_format(images) == torch.channels_last
    rows = images.movedim(1, -1) if last else images
    x = rows.index_select(0, index)
    x = x.movedim(-1, 1) if last else x
    if images.dtype == torch.uint8:
        layout = torch.channels_last if x.is_cuda else torch.contiguous_format
        x = x.to(torch.float32, memory_format=layout).div_(255)
        if mean is not None:
            x.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))
    return x.float(), labels.index_select(0, index)


def _triton(*given: Tensor | int | None) -> tuple[Tensor, Tensor]:
    return import_module("softhebb_fast.kernels.gather").gather(*given)


LIBRARY.impl("gather", _plain, "CompositeExplicitAutograd")
LIBRARY.impl("gather", _triton, "CUDA")
torch.library.register_fake("softhebb_fast::gather", _plain, lib=LIBRARY)


def gather(
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    position: Tensor,
    mean: Tensor | None,
    std: Tensor | None,
    first: int,
    size: int,
) -> tuple[Tensor, Tensor]:
    """The rows ``order[position + first]`` and the ``size - 1`` after it, and their labels.

    Shapes: images ``[N, ...]``, labels int64 ``[N]``, order int64 ``[N]``, position int64 ``[]``,
    mean and std float32 ``[C]`` or None; x ``[size, ...]`` float32. uint8 images ``[N, C, H, W]``
    become ``byte / 255``, less the mean, by the std, on CUDA with the channels last; features keep
    their memory format.
    """
    return call.gather(images, labels, order, position, mean, std, first, size)
