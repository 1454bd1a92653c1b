"""What a network sees an image as when it is tested: as it is, mirrored, moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.scalars import whole


@dataclass(frozen=True)
class Views:
    """Images of an image, whose scores a network gives the mean of.

    Attributes:
        mirror: whether its mirror image is one.
        shifts: by how many pixels it is moved up, down, left, right and along the diagonals, which
            makes nine of it; its edges are reflected. 0 for the image alone.

    Raises TypeError or ValueError for other values, naming them.
    """

    mirror: bool = False
    shifts: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.mirror, bool):
            raise TypeError(f"mirror must be a bool; got {self.mirror!r}")
        object.__setattr__(self, "shifts", whole("shifts", self.shifts, least=0))

    def __len__(self) -> int:
        return (9 if self.shifts else 1) * (1 + self.mirror)

    @property
    def several(self) -> bool:
        """Whether there is another than the image itself."""
        return len(self) > 1

    def check(self, height: int, width: int) -> None:
        """Raise ValueError for images of ``height`` x ``width`` that cannot be moved so far."""
        if self.shifts >= min(height, width):
            raise ValueError(
                f"shifts must be less than the {height}x{width} pixels of an image; "
                f"got {self.shifts}"
            )

    def __call__(self, x: Tensor) -> Iterator[Tensor]:
        """The views of images ``x [B, C, H, W]``, each of that shape; ``x`` itself comes first.

        Raises ValueError for images that are not larger than ``shifts``.
        """
        height, width = x.shape[-2:]
        self.check(height, width)
        sides = [x, x.flip(-1)] if self.mirror else [x]
        yield from sides
        if not self.shifts:
            return
        places = (0, self.shifts, 2 * self.shifts)
        for side in sides:
            padded = F.pad(side, [self.shifts] * 4, mode="reflect")
            for down in places:
                for right in places:
                    if (down, right) != (self.shifts, self.shifts):
                        yield padded[..., down : down + height, right : right + width]


AS_IT_IS = Views()
