"""What a block's epilogue is to do on a map of known size, and what of it is left to a launch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.kernels import configs
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.options import Epilogue


class Pooling(NamedTuple):
    """An ``Epilogue`` on a map of known size, as the kernels take it.

    Where the stride divides the kernel, every window is made of whole blocks of one stride, and
    ``[NY, NX]`` blocks cover the map. A tile of u is pooled block by block; blocks overlap nowhere,
    so no position is computed twice.
    """

    CENTRE: bool
    RELU: bool
    POWER: float
    MAX: bool
    COUNT: int  # positions of a window, by which an average divides
    KY: int
    KX: int
    SY: int
    SX: int
    PAD_Y: int
    PAD_X: int
    OY: int  # the pooled map
    OX: int
    NY: int
    NX: int
    MEANS: int = 1  # of so many equal parts of the neurons, each in whole groups

    @property
    def block(self) -> int:
        """Positions of a block; 0 where windows are not made of blocks, or tiles not of those."""
        size = self.SY * self.SX
        whole = self.KY % self.SY == 0 and self.KX % self.SX == 0
        return size if whole and size in (1, 2, 4, 8, 16) else 0

    @property
    def one_block(self) -> bool:
        """Whether a window is a block, and a block pooled is done."""
        return (self.KY, self.KX) == (self.SY, self.SX)

    def in_tile(self, G: Geometry) -> bool:
        """Whether a tile of all neurons of a group has all that its blocks need."""
        return self.block > 0 and (not self.CENTRE or self.MEANS == G.GROUPS)

    def of_blocks(self) -> Pooling:
        """What remains to be done on a map of pooled blocks."""
        return self._replace(
            CENTRE=False,
            MEANS=1,
            RELU=self.MAX,
            KY=self.KY // self.SY,
            KX=self.KX // self.SX,
            SY=1,
            SX=1,
            PAD_Y=0,
            PAD_X=0,
        )


def pooling(e: Epilogue, G: Geometry) -> Pooling:
    (ky, kx), (sy, sx), (pad_y, pad_x) = e.kernel, e.stride, e.padding
    out_y, out_x = (G.OH + 2 * pad_y - ky) // sy + 1, (G.OW + 2 * pad_x - kx) // sx + 1
    blocks_y, blocks_x = (
        max(out - 1 + kernel // stride, -(-(size + pad) // stride))
        for out, kernel, stride, size, pad in (
            (out_y, ky, sy, G.OH, pad_y),
            (out_x, kx, sx, G.OW, pad_x),
        )
    )
    return Pooling(
        e.centre,
        True,
        float(e.power),
        e.pool == "max",
        ky * kx,
        *(ky, kx, sy, sx, pad_y, pad_x, out_y, out_x, blocks_y, blocks_x),
        e.groups if e.centre else 1,
    )


class PoolTensors(NamedTuple):
    """u with its sums over neurons ``[U_SUMS, M]``, or a map of blocks; and the pooled map."""

    a: Tensor | None = None
    u_sums: Tensor | None = None
    out: Tensor | None = None


class PoolConstants(NamedTuple):
    """A tile ``[BY, BX]`` of the pooled map and BN neurons, and what it is made of."""

    BY: int = 1
    BX: int = 1
    BN: int = 1
    BLOCKS: bool = False
    U_SUMS: int = 1


class PendingPool(NamedTuple):
    """What is left to pool, by ``programs`` programs."""

    tensors: PoolTensors = PoolTensors()
    E: Pooling | None = None
    constants: PoolConstants = PoolConstants()
    positions: int = 0
    programs: int = 0


NO_POOL = PendingPool()


def pending(
    a: Tensor,
    u_sums: Tensor | None,
    out: Tensor,
    positions: int,
    G: Geometry,
    E: Pooling,
    blocks: bool = False,
    parts: int = 1,
) -> PendingPool:
    """Of u and its sums in so many parts, or of ``blocks``."""
    tile = configs.pool(G.neurons // E.MEANS, G.U_CHANNELS_LAST, E.OY, E.OX)
    rows, columns = -(-E.OY // tile["BY"]), -(-E.OX // tile["BX"])
    programs = out.shape[0] * rows * columns * E.MEANS * -(-G.neurons // E.MEANS // tile["BN"])
    constants = PoolConstants(**tile, BLOCKS=blocks, U_SUMS=parts)
    return PendingPool(PoolTensors(a, u_sums, out), E, constants, positions, programs)


def new_map(x: Tensor, G: Geometry, height: int, width: int) -> Tensor:
    """Room for u or what is pooled of it, in the layout of x."""
    layout = torch.channels_last if G.U_CHANNELS_LAST else torch.contiguous_format
    shape = (x.shape[0], G.neurons, height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def new_blocks(x: Tensor, G: Geometry, E: Pooling) -> tuple[Tensor, PendingPool | None]:
    """Where a tile of u is pooled to: the pooled map, or blocks and what is left to do."""
    out = new_map(x, G, E.OY, E.OX)
    if E.one_block:
        return out, None
    blocks = x.new_empty((x.shape[0], E.NY, E.NX, G.neurons), dtype=torch.float32)
    return blocks, pending(blocks, None, out, x.shape[0] * G.pixels, G, E.of_blocks(), True)
