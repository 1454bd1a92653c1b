"""Symmetric equations, summed and solved within the memory of their matrix."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1024
EXACT = 1e-12  # of the right side, what may be left of it in float64
CORRECTIONS = 20  # a factor in float32 that needs more is taken for too coarse


def add_products(matrix: Tensor, x: Tensor) -> None:
    """Add ``xᵀx`` of ``x [M, F]`` to the lower triangle of ``matrix [F, F]``."""
    room = x.new_empty(min(BLOCK, x.shape[1]) * x.shape[1])
    for i in range(0, x.shape[1], BLOCK):
        end = min(i + BLOCK, x.shape[1])
        products = room[: (end - i) * end].view(end - i, end)
        matrix[i:end, :end] += torch.mm(x[:, i:end].t(), x[:, :end], out=products)


def solved(matrix: Tensor, right: Tensor, penalty: float) -> Tensor | None:
    """``(matrix + penalty I)⁻¹ right``; None where that matrix is not positive definite in its
    dtype.

    Cholesky's factor R, with ``RᵀR`` the matrix, is computed in float32, at half the cost of
    float64. Conjugate gradients with that factor as preconditioner then correct x until the
    residual in float64 is 1e-12 of ``right``. Where R does not exist in float32 or corrects too
    slowly, it is computed in float64, if that is the dtype of ``matrix``.

    Args:
        matrix: float64 or float32 ``[M, M]`` whose rows are contiguous. Its lower triangle is read
            and stays as it is; R is written above it, so that nothing as large is needed.
        right: float64 ``[M, K]``.
        penalty: added to the diagonal.

    Source: Golub and Van Loan 2013, section 4.2.5, block by block, and 11.5.2.
    """
    rows = right.t().contiguous()
    coarse = Factor(matrix, penalty, torch.float32)
    x = _corrected(matrix, rows, penalty, coarse) if coarse.exists else None
    if x is None and matrix.dtype == torch.float64:
        exact = Factor(matrix, penalty, torch.float64)
        x = exact.solved(rows) if exact.exists else None
    return None if x is None else x.t().contiguous()


class Factor:
    """R of ``RᵀR = matrix + penalty I`` in ``dtype``, written above the diagonal of ``matrix``.

    Attributes:
        exists: whether the matrix is positive definite in ``dtype``, beyond the rounding of sums.
    """

    above: Tensor
    diagonal: list[Tensor]
    blocks: list[tuple[int, int]]
    least: float
    exists: bool

    def __init__(self, matrix: Tensor, penalty: float, dtype: torch.dtype) -> None:
        size = len(matrix)
        # The last M columns of float64's 2M in float32 lie above the diagonal where R does.
        self.above = matrix if dtype == matrix.dtype else matrix.view(dtype)[:, size:]
        self.diagonal = []
        self.blocks = _blocks(size)
        largest = float(matrix.diagonal().max()) + penalty
        self.least = size**0.5 * torch.finfo(dtype).eps * largest
        self.exists = all(self._row(matrix, penalty, *block) for block in self.blocks)

    def solved(self, rows: Tensor) -> Tensor:
        """``(RᵀR)⁻¹`` times every one of ``rows`` ``[K, M]``, in their dtype."""
        x = rows.to(self.above.dtype, copy=True)
        return self.back_(self.forward_(x)).to(rows.dtype)

    def forward_(self, x: Tensor) -> Tensor:
        """``x R⁻¹`` in the place of ``x [K, M]``, computed in its dtype."""
        for (start, end), own in zip(self.blocks, self.diagonal, strict=True):
            x[:, start:end] = torch.linalg.solve_triangular(
                own.to(x.dtype), x[:, start:end], upper=True, left=False
            )
            x[:, end:] -= x[:, start:end] @ self.above[start:end, end:].to(x.dtype)
        return x

    def back_(self, x: Tensor) -> Tensor:
        """``x R⁻ᵀ`` in the place of ``x [K, M]``, computed in its dtype."""
        for (start, end), own in zip(self.blocks[::-1], self.diagonal[::-1], strict=True):
            rest = x[:, start:end] - x[:, end:] @ self.above[start:end, end:].t().to(x.dtype)
            x[:, start:end] = torch.linalg.solve_triangular(
                own.t().to(x.dtype), rest, upper=False, left=False
            )
        return x

    def _row(self, matrix: Tensor, penalty: float, start: int, end: int) -> bool:
        """Compute the rows ``start`` to ``end`` of R; False where there is none."""
        above, dtype = self.above[:start, start:end], self.above.dtype
        own = _whole(matrix[start:end, start:end])
        own.diagonal().add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(own.to(dtype) - above.t() @ above, upper=True)
        if failed or not factor.diagonal().square().min() > self.least:
            return False
        self.diagonal.append(factor)
        rest = matrix[end:, start:end].t().to(dtype) - above.t() @ self.above[:start, end:]
        rest = torch.linalg.solve_triangular(factor.t(), rest, upper=False)
        self.above[start:end, end:] = rest
        return True


def _corrected(matrix: Tensor, rows: Tensor, penalty: float, factor: Factor) -> Tensor | None:
    """x by conjugate gradients, each row for itself; None where they do not converge."""
    x, residual = torch.zeros_like(rows), rows.clone()
    enough = EXACT * rows.norm(dim=1, keepdim=True)
    direction, along = torch.zeros_like(rows), torch.ones_like(enough)
    for _ in range(CORRECTIONS):
        if bool((residual.norm(dim=1, keepdim=True) <= enough).all()):
            return x
        step = factor.solved(residual)
        before, along = along, (residual * step).sum(1, keepdim=True)
        direction = step + _ratio(along, before) * direction
        image = product(matrix, direction, penalty)
        length = _ratio(along, (direction * image).sum(1, keepdim=True))
        x += length * direction
        residual -= length * image
    return None


def _ratio(over: Tensor, under: Tensor) -> Tensor:
    """``over / under``, 0 where ``under`` is: a row that is solved stays as it is."""
    return torch.where(under == 0, 0, over / under)


def product(matrix: Tensor, x: Tensor, penalty: float = 0.0) -> Tensor:
    """``matrix + penalty I`` times every row of ``x`` ``[K, M]``, from the lower triangle."""
    y = penalty * x
    for start, end in _blocks(len(matrix)):
        left, own = matrix[start:end, :end].to(x.dtype).tensor_split([start], dim=1)
        own = _whole(own)
        y[:, start:end] += x[:, :start] @ left.t() + x[:, start:end] @ own
        y[:, :start] += x[:, start:end] @ left
    return y


def _whole(block: Tensor) -> Tensor:
    """The symmetric matrix whose lower triangle is that of ``block``."""
    return block.tril() + block.tril(-1).t()


def _blocks(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]
