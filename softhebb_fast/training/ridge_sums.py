"""What the two forms of least squares with a penalty share: dtypes, sums and their memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 1024  # rows of a matrix, or columns of its factors, at a time


class Dtypes(NamedTuple):
    """dtypes of the ``products`` of rows, of their ``sums``, and of the rows that are ``kept``."""

    products: torch.dtype
    sums: torch.dtype
    kept: torch.dtype

    def bytes_of(self, size: int, kept: int, spectrum: bool) -> int:
        """The most memory that ``size`` equations and so many numbers ``kept`` take at a time;
        ``spectrum`` decomposes the equations."""
        matrices = self.sums.itemsize + (4 * 8 if spectrum else 0)
        return matrices * size**2 + self.kept.itemsize * kept + 6 * 8 * BLOCK * size

    def shifted(self, x: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
        """``x`` for products, counted from ``shift`` or, if None, from its mean; and the shift.

        Raises ValueError for numbers that this dtype has no room for.
        """
        if shift is None:
            shift = x.double().mean(0).to(self.products)
        moved = x.to(self.products) - shift
        narrows = torch.promote_types(x.dtype, self.products) != self.products
        if narrows and not moved.isfinite().all():
            raise ValueError(self.too_large(f"numbers up to {float(x.abs().max()):g}"))
        return moved, shift

    def too_large(self, found: str) -> str:
        """What to say of features of which ``found`` has no room in products."""
        name = str(self.products).removeprefix("torch.")
        return f"x must have products that are finite in {name}; got {found}" + (
            "; products='float64' may have room" if self.products != torch.float64 else ""
        )

    def to_keep(self, x: Tensor) -> Tensor:
        """``x`` as it is kept. Raises ValueError where that dtype ends before its values do."""
        kept = x.to(self.kept)
        if not kept.isfinite().all():
            name, largest = str(self.kept).removeprefix("torch."), float(x.abs().max())
            raise ValueError(
                f"kept must be a dtype of a wider range than {name} for features up to {largest:g}"
            )
        return kept


def deviation(variance: Tensor) -> Tensor:
    """The root of ``variance``, 1 where there is none."""
    return torch.where(variance > 0, variance, 1.0).sqrt()
