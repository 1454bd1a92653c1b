"""A model of an H100's L2: 50 MB, which what was touched longest ago leaves first."""

from __future__ import annotations

from collections import OrderedDict

L2 = 50e6


class Cache:
    """The L2: pieces of tensors, those first that were touched longest ago."""

    def __init__(self) -> None:
        self.held: OrderedDict[tuple, tuple[float, bool]] = OrderedDict()
        self.room = L2
        self.read = self.evicted = 0.0  # bytes from HBM, bytes of scratch to it

    def touch(
        self, piece: tuple, size: float, dirty: bool, fresh: bool, forget: bool = False
    ) -> None:
        """``fresh`` pieces are written whole, not read before; one to ``forget`` leaves next."""
        known = self.held.pop(piece, None)
        if known is None:
            self.room -= size
            self.read += 0.0 if fresh else size
        self.held[piece] = (size, dirty or (known is not None and known[1]))
        if forget:
            self.held.move_to_end(piece, last=False)
        while self.room < 0:
            size, dirty = self.held.popitem(last=False)[1]
            self.room += size
            self.evicted += size * dirty
