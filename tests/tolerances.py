"""Every tolerance of the tests with its reason, and the comparisons that use them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

# Relative to the larger of 1 and the largest magnitude expected; |delta_w| is at most 1.
TOLERANCES = {
    # rounding is 1e-16; sums of some hundred terms and a softmax at t = 96 stay below this
    "float64": 1e-12,
    # some training steps of a deep net, each magnifying what rounding did to the one before
    "float64_steps": 1e-9,
    # some hundred equations of a condition up to 1e5, solved in two ways
    "ridge": 1e-9,
    # the same from products in float32, their rounding magnified by that condition
    "ridge_float32": 1e-3,
    # scores from features of the size of 1 rounded to 2^-11 or 2^-8 of themselves
    "ridge_float16": 1e-3,
    "ridge_bfloat16": 1e-2,
    # a minimum that L-BFGS finds in float32: scores within a root of the rounding of the loss
    "softmax": 2e-3,
    # sums of up to some thousand products, each rounded to 6e-8
    "float32_u": 2e-6,
    # the errors of u times t = 12, summed over positions that partly cancel
    "float32_delta_w": 1e-5,
    # sums of some tens of products as large as x, some of them divided by a small deviation
    "float32_whitened": 2e-5,
    # some tens of steps of a small net whose sums are taken in parts, each rounded to 6e-8
    "float32_run": 1e-5,
    # epsilon = 1e-9 of variances that are 1e-4 at least
    "float64_epsilon": 1e-4,
    # sums as in float32 and one rounding of the result to 11 bits
    "float16": 5e-4,
    # the same to 8 bits
    "bfloat16": 4e-3,
    # operands cut to 10 bits, some hundred products of random sign
    "tf32": 4e-3,
    # factors of 16 bits: 2^-17 each, and 2^-17 for the product of the low parts that is left out
    "bf16x3_u": 2e-5,
    # as for float32, five times the errors of u
    "bf16x3_delta_w": 1e-4,
    # two pre-activations of bf16x3 nearer than this may rank either way
    "bf16x3_band": 1e-4,
    # times the error of the direct method: Winograd adds up to four values before it multiplies
    "winograd_growth": 10.0,
    # a dozen steps of Adam, whose first divide a gradient by itself, and quotients to some 2^-21
    "classifier": 1e-5,
    # a mean of some tens subtracted from values of that size, and sums of some hundreds
    "batch_norm": 3e-5,
    # five standard deviations of the mean of 131,072 coins of 0.7
    "share_of_a_mask": 7e-3,
    # four standard deviations of the mean of four sums of roundings up and down
    "share_of_a_movement": 0.25,
    # six standard deviations of the correlation of 2,048 coins with others
    "correlation_of_masks": 0.14,
    # two float32 pre-activations nearer than this may rank either way
    "float32_band": 1e-5,
}
# Per cent of 10,000 images: three whose two best scores are nearer than rounding, which differs
# from machine to machine, may be told the other way.
CARD_ACCURACY = 0.03
# The norm of the error over the norm of what is expected, of whole layers on a GPU. Rounding to n
# bits costs 0.42 * 2^-n of a value, root mean square; half as much again as expected is allowed.
# Of u: sums of thousands of products, their factors rounded to 24, 11, 11 and 8 bits.
NORM_OF_U = {"bf16x6": 2e-6, "tf32x3": 2e-6, "tf32": 2e-3, "float16": 5e-4, "bfloat16": 4e-3}
# Of a delta whose u is taken as it is, in 16 bits as it is before it is rounded: then y, of whose
# rounding a fifth is left at most, and delta are rounded to 11 and 8 bits.
NORM_OF_DELTA = {
    "ieee": 1e-4,
    "bf16x6": 1e-4,
    "tf32x3": 1e-4,
    "tf32": 2e-3,
    "float16": 3.2e-4,
    "bfloat16": 2.5e-3,
}


def norm_of_u(precision: str, terms: int) -> float:
    """The tolerance of a u that sums so many products of random sign.

    In ``ieee`` every partial sum is rounded. They are a random walk, so that the squares of their
    norms add up to ``terms / 2`` times that of the whole.
    """
    if precision == "ieee":
        return 1.5 * 0.42 * 2**-24 * (terms / 2) ** 0.5
    return NORM_OF_U[precision]


def tolerance(dtype: torch.dtype, what: str) -> float:
    """The tolerance of an output in ``dtype``; ``what`` is ``"u"`` or ``"delta_w"``."""
    name = str(dtype).removeprefix("torch.")
    return TOLERANCES[f"{name}_{what}" if dtype == torch.float32 else name]


def assert_close(actual: Tensor, expected: Tensor, tol: float) -> None:
    """Same shape, NaN and inf in the same places, the rest within ``tol`` of its scale."""
    actual, expected = actual.detach().double().cpu(), expected.detach().double().cpu()
    finite = expected[expected.isfinite()]
    scale = max(1.0, float(finite.abs().max()) if finite.numel() else 1.0)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tol * scale, equal_nan=True)


def assert_outputs_close(actual, expected, dtype: torch.dtype | None = None) -> None:
    """u, delta_w and delta_b within the tolerances of ``dtype``, by default that of ``actual``."""
    dtype = dtype or actual.u.dtype
    assert_close(actual.u, expected.u, tolerance(dtype, "u"))
    assert_close(actual.delta_w, expected.delta_w, tolerance(dtype, "delta_w"))
    assert (actual.delta_b is None) == (expected.delta_b is None)
    if expected.delta_b is not None:
        assert_close(actual.delta_b, expected.delta_b, tolerance(dtype, "delta_w"))


def literal(values: float | list[float]) -> object:
    """Numbers worked by hand, to compare a float32 result with by ``==``."""
    return pytest.approx(values, rel=TOLERANCES["float32_u"])


def boundary_band(
    u: Tensor, tol: float = TOLERANCES["float32_band"], *, groups: int = 1, rank: int = 1
) -> Tensor:
    """Positions where rounding may change who wins: ``[B, ...]``, True inside the band.

    ``u [B, K, ...]`` are exact pre-activations. A position lies in the band if, in any group, two
    neighbours among its first ``rank + 1`` neurons in descending order differ by less than
    ``tol`` times the larger of 1 and their magnitude. ``rank`` is that of ``"hard_anti"``.
    """
    top = u.unflatten(1, (groups, -1)).sort(dim=2, descending=True).values[:, :, : rank + 1]
    gap = top[:, :, :-1] - top[:, :, 1:]
    near = gap < tol * top[:, :, :-1].abs().clamp(min=1)
    return near.flatten(1, 2).any(dim=1)


def clear_of_band(x: Tensor, u: Tensor, **band) -> Tensor:
    """The samples of the batch ``x`` that have no position in the band of ``u``."""
    return x[~boundary_band(u, **band).unsqueeze(-1).flatten(1).any(dim=1)]
