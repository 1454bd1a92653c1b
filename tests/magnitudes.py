"""A backend at magnitudes far from 1, against the float64 oracle."""

from __future__ import annotations

import torch

from softhebb_fast.options import Rule
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


ACTIVITIES = Rule(gain="activity", normalise="mean")  # of which a layer gives the sums of y
# u, t and dtype where t u has no digits behind the point
LARGE = [
    (1e7, 100.0, torch.float32),
    (1e5, 1e4, torch.float32),
    (1e30, 1e30, torch.float32),
    (1e7, 100.0, torch.bfloat16),
    (1e5, 1e4, torch.bfloat16),
    (3e3, 1e4, torch.float16),
]
# u of which whole numbers are the last digits, in the terms in which u is kept
LONG = [(2.0**20, torch.float32), (2.0**11, torch.bfloat16), (2.0**12, torch.float16)]


def shares(module, neurons: int, tied: int, size: float, t: float, dtype: torch.dtype):
    """y of the neurons that tie at the largest u, and of all others, whose u is half of that.

    u has more digits than 16 bits. Those that tie are spread over the neurons.
    """
    x = torch.tensor([[size, 1.0]] * 4, dtype=dtype)
    w = torch.ones(neurons, 2, dtype=dtype)
    w[torch.linspace(neurons - 1, 0, tied).long()] = 2
    y = module.linear(x, w, None, ACTIVITIES, wta="soft", t_invert=t).statistic / 4
    return y[w[:, 0] == 2].tolist(), y[w[:, 0] == 1].tolist()


def small_differences(module, neurons: int, size: float, dtype: torch.dtype) -> float:
    """How far y is off, at most, where u is ``size`` and a few more."""
    x = torch.tensor([[size, 1.0]] * 4, dtype=dtype)
    more = torch.arange(neurons) * 7 % 11
    w = torch.stack([torch.ones(neurons), more], dim=1).to(dtype)
    y = module.linear(x, w, None, ACTIVITIES, wta="soft", t_invert=1.0).statistic / 4
    return float((y - more.double().softmax(0)).abs().max())
