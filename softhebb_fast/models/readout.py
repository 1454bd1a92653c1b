"""What a classifier sees: the outputs of chosen layers, each pooled to a grid, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast.nn import RePU
from softhebb_fast.scalars import at_least_zero, positive, whole

ADAPTIVE = {"avg": F.adaptive_avg_pool2d, "max": F.adaptive_max_pool2d}
STRIDED = {"avg": F.avg_pool2d, "max": F.max_pool2d}


@dataclass(frozen=True)
class Selection:
    """Which outputs a classifier sees, as plain values that survive JSON.

    Attributes:
        layers: the layers whose outputs are taken, counted from 1; () for the last alone.
        grid: sides of the square grids that their maps are pooled to, one of all or one a layer; 0
            leaves a map as it is.
        pool: ``"avg"`` or ``"max"``.
        window: the least side of a pooled window, as a share of the map's; windows overlap, lie
            evenly and cover the map. 0 for windows that meet, as of torch's
            ``adaptive_avg_pool2d``.
        mirrored: whether pooled features are the mean of an image's and its mirror image's.
        power: what pooled features f become, sign(f) |f|^power; below 1 it evens out features that
            are large in a few images (Perronnin, Sánchez, Mensink 2010).

    Raises TypeError or ValueError for other values, naming them.
    """

    layers: tuple[int, ...] = ()
    grid: tuple[int, ...] = (0,)
    pool: str = "avg"
    window: float = 0.0
    mirrored: bool = False
    power: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("layers", 1), ("grid", 0)):
            value = getattr(self, name)
            values = value if isinstance(value, list | tuple) else (value,)
            object.__setattr__(self, name, tuple(whole(name, one, least) for one in values))
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers must rise, each named once; got {self.layers}")
        if len(self.grid) not in (1, max(1, len(self.layers))):
            raise ValueError(
                f"grid must be one side, or one for each of the {max(1, len(self.layers))} layers; "
                f"got {self.grid}"
            )
        if not isinstance(self.pool, str) or self.pool not in ADAPTIVE:
            raise ValueError(f"pool must be one of {', '.join(ADAPTIVE)}; got {self.pool!r}")
        object.__setattr__(self, "window", at_least_zero("window", self.window))
        if self.window > 1:
            raise ValueError(f"window must be at most 1, the whole map; got {self.window}")
        if not any(self.grid):
            for name, usual in (("pool", "avg"), ("window", 0)):
                if (value := getattr(self, name)) != usual:
                    raise ValueError(
                        f"grid must be at least 1 for {name} to say how maps are pooled; "
                        f"got {self.grid} and {name}={value!r}"
                    )
        if not isinstance(self.mirrored, bool):
            raise TypeError(f"mirrored must be a bool; got {self.mirrored!r}")
        object.__setattr__(self, "power", positive("power", self.power))

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def windows(side: int, count: int, share: float) -> tuple[int, int]:
    """The size and the step of ``count`` windows that lie evenly on ``side`` pixels and cover them,
    each of ``share`` of them at least.

    Raises ValueError where no two of them would differ.
    """
    if count == 1:
        return side, side
    least = math.ceil(share * side)
    step = min(side // count, (side - least) // (count - 1))
    if not step:
        raise ValueError(
            f"window must be at most {(side - count + 1) / side:.3g} for {count} windows on "
            f"{side} pixels; got {share}"
        )
    return side - step * (count - 1), step


class Readout(nn.Module):
    """The outputs of ``blocks`` that ``selection`` names: pooled, flattened, side by side.

    ``[B, C, H, W]`` gives ``[B, F]``, layer after layer, each in the order of its ``[K, rows,
    columns]``. The blocks stay the caller's: they are no part of this module's state, and one that
    is replaced in ``blocks`` is replaced here.

    Args:
        blocks: what images pass, in order.
        shapes: the shape (K, H, W) of what each gives.
        selection: what is taken of it.

    Attributes:
        features: F.

    Raises ValueError for a layer that there is not, and for a grid or windows that its map is too
    small for.
    """

    selection: Selection
    grids: dict[int, int]
    features: int

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        shapes: Sequence[tuple[int, int, int]],
        selection: Selection,
    ) -> None:
        super().__init__()
        layers = selection.layers or (len(blocks),)
        if not blocks or layers[-1] > len(blocks):
            raise ValueError(
                f"layers must be among the {len(blocks)} below the classifier; got {layers}"
            )
        grids = selection.grid * (len(layers) if len(selection.grid) == 1 else 1)
        self.selection, self.grids = selection, dict(zip(layers, grids, strict=True))
        self.features, self._all = 0, (blocks,)  # a tuple hides them from torch.nn.Module
        for layer, grid in self.grids.items():
            channels, height, width = shapes[layer - 1]
            if grid > min(height, width):
                raise ValueError(
                    f"grid must be at most the map of layer {layer}, {height}x{width}; got {grid}"
                )
            if grid and selection.window:
                for side in (height, width):
                    windows(side, grid, selection.window)  # says what is too large
            self.features += channels * (grid * grid if grid else height * width)

    def forward(self, x: Tensor) -> Tensor:
        """The features ``[B, F]`` of images ``x [B, C, H, W]``."""
        together = self._seen(x)
        if self.selection.mirrored:
            together = (together + self._seen(x.flip(-1))) / 2
        if self.selection.power == 1:
            return together
        side = RePU(self.selection.power)
        return side(together) - side(-together)

    def _seen(self, x: Tensor) -> Tensor:
        found = []
        for layer, block in enumerate(self.blocks, 1):
            x = block(x)
            if (grid := self.grids.get(layer)) is not None:
                found.append((self._pooled(x, grid) if grid and x.dim() == 4 else x).flatten(1))
        return torch.cat(found, 1) if len(found) > 1 else found[0]

    def _pooled(self, x: Tensor, grid: int) -> Tensor:
        pool, window = self.selection.pool, self.selection.window
        if not window:
            return ADAPTIVE[pool](x, grid)
        sizes, steps = zip(*(windows(side, grid, window) for side in x.shape[2:]), strict=True)
        return STRIDED[pool](x, sizes, steps)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """What images pass, up to the last layer that is taken."""
        (blocks,) = self._all
        return tuple(blocks)[: max(self.grids)]

    def extra_repr(self) -> str:
        grids = ", ".join(f"{layer}: {grid or 'whole'}" for layer, grid in self.grids.items())
        return f"layers {{{grids}}}, pool={self.selection.pool}, features={self.features}"
