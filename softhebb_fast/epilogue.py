"""What follows u in a block: an activation and a pooling, described and defined."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Epilogue(NamedTuple):
    """``relu(u - mean over channels) ** power``, then pooling.

    Attributes:
        centre: subtract the mean (Triangle); False for RePU and ReLU.
        power: positive exponent.
        pool: ``"max"`` or ``"avg"``, padding counted in the average, sizes rounded down.
        kernel, stride, padding: of the pooling; 1, 1 and 0 for none.
    """

    centre: bool = True
    power: float = 1.0
    pool: str = "max"
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def apply(self, u: Tensor) -> Tensor:
        """The epilogue of ``u [B, K, OH, OW]`` in plain PyTorch: ``[B, K, PH, PW]``.

        Computed in float32 at least, returned in the dtype of u.
        """
        a = u if u.dtype == torch.float64 else u.float()
        a = F.relu(a - a.mean(dim=1, keepdim=True) if self.centre else a)
        a = a if self.power == 1 else a**self.power
        pool = F.max_pool2d if self.pool == "max" else F.avg_pool2d
        return pool(a, self.kernel, self.stride, self.padding).to(u.dtype)
