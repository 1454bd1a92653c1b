"""Dropout that does not wait for the random numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """``nn.Dropout`` whose mask takes 16 random bits an element on the CPU.

    torch draws one number of its generator for every element, which is most of the time of a
    linear classifier's step; this draws one for four. The probability is rounded to a multiple of
    2^-16. The mask follows torch's global generator. Elsewhere it is ``nn.Dropout``.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu" or self.p in (0, 1):
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
        dropped = round(self.p * LEVELS)
        kept = bits >= dropped - LEVELS // 2
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))
