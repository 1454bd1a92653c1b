"""What a CUDA graph forbids, found without a GPU: a mode that fails, and tensors that pretend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda:0")
INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
BY_DATA = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class CaptureError(AssertionError):
    """An operation that waits for the device."""


class CaptureSafety(TorchDispatchMode):
    """Fails on every operation that cannot be captured; ``seen`` are the names of the others.

    Forbidden are reads of a value (``item``, ``bool``), shapes that depend on data (``nonzero``,
    ``unique``, masks) and copies between devices. A CPU scalar among the arguments is a number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in INDEXING:
            forbidden = any(t.dtype in (torch.bool, torch.uint8) for t in _tensors(args[1]))
        else:
            forbidden = any(tag in func.tags for tag in BY_DATA)
        if forbidden:
            raise CaptureError(f"{func} waits for the device: its result depends on data")
        out = func(*args, **kwargs)
        given = [t for t in _tensors((args, kwargs)) if t.dim() > 0]
        devices = {t.device.type for t in (*given, *_tensors(out))}
        if len(devices) > 1:
            raise CaptureError(f"{func} copies between {' and '.join(sorted(devices))}")
        self.seen.append(str(func))
        return out


@contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Tensors made inside are on a CUDA device that need not exist, and hold no data.

    ``Tensor.copy_`` goes to the dispatcher directly: its Python binding asks for the device.
    """

    def copy_(self, source, non_blocking=False):
        return torch.ops.aten.copy_.default(self, source, non_blocking)

    with mock.patch.object(Tensor, "copy_", copy_), FakeTensorMode() as mode:
        mode.allow_non_fake_inputs = True
        yield mode


def on_fake_cuda(net: nn.Module) -> nn.Module:
    """``net`` without its values, on the fake device; for use inside ``fake_cuda``."""
    return net.to_empty(device=CUDA)


def _tensors(tree: object) -> list[Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor)]
