"""Dropout that does not wait for the random numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast import extension
from softhebb_fast.nn.recording import recorded
from softhebb_fast.scalars import number

NATIVE = extension.MISSING is None
LEVELS = 1 << 16
DTYPES = (torch.float32, torch.float64)


class Dropout(nn.Dropout):
    """``nn.Dropout`` that is not most of a linear classifier's step on the CPU.

    torch draws one number of its generator for every element. The native operator draws one in
    all, the seed of a counter-based generator, and stores no mask; without it, one draw serves
    four elements. The probability is rounded to a multiple of 2^-16, and the mask follows torch's
    global generator. On other devices, and while it is traced or exported, it is ``nn.Dropout``.

    Args:
        p: probability with which an element is dropped.
        inplace: without effect on the CPU, where x stays as it is.

    Attributes:
        place: the samples before x in its batch, and how many that has, where x is a part of one.
            The mask is then the part of the batch's.

    Raises TypeError or ValueError for a ``p`` that is no probability.
    """

    place: tuple[int, int] | None = None

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        found = number("p", p)
        if not 0 <= found <= 1:
            raise ValueError(f"p must lie between 0 and 1; got {p!r}")
        super().__init__(found, inplace)

    def forward(self, x: Tensor) -> Tensor:
        if self.place is None or not self.training:
            return self._dropped(x)
        before, batch = self.place
        after = batch - before - len(x)
        whole = F.pad(x, [0, 0] * (x.dim() - 1) + [before, after])
        return self._dropped(whole)[before : before + len(x)]

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training or recorded(x) or x.device.type != "cpu":
            return super().forward(x)
        if self.p in (0, 1):
            return F.dropout(x, self.p)
        if NATIVE and x.dtype in DTYPES and not torch.compiler.is_compiling():
            seed = int(torch.empty((), dtype=torch.int64).random_(-(1 << 63), None))
            return extension.call.dropout(x, self.p, seed)
        dropped = round(self.p * LEVELS)
        if dropped == LEVELS:
            return x * 0
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
        kept = bits >= dropped - LEVELS // 2
        scale = min(LEVELS / (LEVELS - dropped), torch.finfo(x.dtype).max)
        return x * kept.to(x.dtype).mul_(scale)
