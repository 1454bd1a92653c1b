"""Symmetric equations solved within the memory of their matrix."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1024


def solved(matrix: Tensor, right: Tensor, penalty: float) -> Tensor | None:
    """``(matrix + penalty I)⁻¹ right``; None where that matrix is not positive definite in float64.

    The lower triangle of ``matrix`` is read and stays as it is. Cholesky's factor R, with ``RᵀR``
    the matrix, is written above it, so that nothing as large is needed.

    Args:
        matrix, right: float64 ``[M, M]`` and ``[M, K]``.
        penalty: added to the diagonal.

    Source: Golub and Van Loan 2013, section 4.2.5, block by block.
    """
    diagonal = matrix.diagonal()
    kept = diagonal.clone()
    diagonal += penalty
    try:
        return _substituted(matrix, right) if _factorise(matrix) else None
    finally:
        diagonal.copy_(kept)


def _factorise(matrix: Tensor) -> bool:
    """Write R into the upper triangle and the diagonal; False where there is none."""
    for start, end in _blocks(len(matrix)):
        above, own = matrix[:start, start:end], matrix[start:end, start:end]
        lower = own.tril(-1)
        whole = own.tril() + lower.t() - above.t() @ above
        factor, failed = torch.linalg.cholesky_ex(whole, upper=True)
        if failed:
            return False
        own.copy_(lower + factor)
        rest = matrix[end:, start:end].t() - above.t() @ matrix[:start, end:]
        matrix[start:end, end:] = torch.linalg.solve_triangular(factor.t(), rest, upper=False)
    return True


def _substituted(matrix: Tensor, right: Tensor) -> Tensor:
    x = right.clone()
    for start, end in _blocks(len(x)):
        factor = matrix[start:end, start:end].triu().t()
        rest = x[start:end] - matrix[:start, start:end].t() @ x[:start]
        x[start:end] = torch.linalg.solve_triangular(factor, rest, upper=False)
    for start, end in reversed(_blocks(len(x))):
        factor = matrix[start:end, start:end].triu()
        rest = x[start:end] - matrix[start:end, end:] @ x[end:]
        x[start:end] = torch.linalg.solve_triangular(factor, rest, upper=True)
    return x


def _blocks(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]
