"""A backend at magnitudes far from 1, against the float64 oracle."""

from __future__ import annotations

import torch

from tests import oracle
from tests.strategies import Extreme
from tests.tolerances import assert_close, tolerance


def compare(module, case: Extreme, dtype: torch.dtype) -> None:
    """u to the bit, the directions within their tolerance times what cancels in them.

    ``module`` has the functions by keyword.
    """
    x, w, bias = case.tensors(dtype)
    layer = "conv2d" if x.dim() == 4 else "linear"
    want = getattr(oracle, layer)(x, w, bias, **case.options)
    got = getattr(module, layer)(x, w, bias, **case.options)
    assert torch.equal(got.u, want.u.to(dtype))
    narrow = dtype in (torch.float16, torch.bfloat16)  # y, too, may be rounded
    tol = tolerance(dtype, "delta_w") * (2 if narrow else 1)
    assert_close(got.delta_w, want.delta_w, tol * want.condition)
    if want.delta_b is not None and (condition := cancellation(want.y, bias, case)) < 1e3:
        assert_close(got.delta_b, want.delta_b, tol * condition)


def cancellation(y: torch.Tensor, bias: torch.Tensor, case: Extreme) -> float:
    """How much the bias's direction magnifies rounding; inf where e^(t b) leaves float32."""
    exponents = case.options["t_invert"] * bias.double()
    if exponents.abs().max() > 60:
        return float("inf")
    total = y.transpose(0, 1).flatten(1).sum(dim=1)
    positions, prior = y.numel() // len(bias), exponents.exp()
    largest = (total / prior - positions).abs().max()
    return float((total.abs() / prior + positions).max() / largest)
