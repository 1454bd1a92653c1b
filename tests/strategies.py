"""Random layers for the property-based tests: options by hypothesis, numbers by a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from softhebb_fast.kinds import PADDING_MODES, WTA


@dataclass
class Case:
    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    with_bias: bool
    options: dict
    seed: int

    def tensors(self, dtype=torch.float64, device="cpu") -> tuple[Tensor, Tensor, Tensor | None]:
        """x, weight and bias: pre-activations of the order of 1, a bias near a uniform prior."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw(shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        x, weight = draw(self.x_shape), draw(self.weight_shape)
        weight = weight / math.sqrt(math.prod(self.weight_shape[1:]))
        bias = None
        if self.with_bias:
            neurons = self.weight_shape[0]
            bias = (draw((neurons,)) / 4 - math.log(neurons)) / self.options["t_invert"]
        return tuple(None if t is None else t.to(device, dtype) for t in (x, weight, bias))


def competitions(neurons: int) -> st.SearchStrategy[dict]:
    """Options of the competition among ``neurons``."""
    return st.fixed_dictionaries(
        {
            "t_invert": st.sampled_from([0.5, 1.0, 12.0, 96.0]),
            "wta": st.sampled_from(WTA),
            "delta": st.sampled_from([0.0, 0.5, 2.0]),
            "rank": st.integers(1, neurons),
            "lebesgue_p": st.sampled_from([2.0, 1.5, 3.0]),
        }
    )


@st.composite
def conv_cases(draw: st.DrawFn) -> Case:
    """A convolution with at least one output position and a padding its mode allows."""
    groups, neurons, channels = (draw(st.integers(1, n)) for n in (3, 5, 3))
    mode = draw(st.sampled_from(PADDING_MODES))
    kernel, stride, dilation, padding = (
        (draw(st.integers(low, high)), draw(st.integers(low, high)))
        for low, high in ((1, 4), (1, 3), (1, 2), (0, 2))
    )
    least = {"reflect": 1, "circular": 0}.get(mode, -2)
    size = tuple(
        max(1, p + least, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    geometry = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": mode,
        "pre_triangle": draw(st.booleans()),
    }
    return Case(
        (draw(st.integers(1, 3)), channels * groups, *size),
        (neurons * groups, channels, *kernel),
        draw(st.booleans()),
        geometry | draw(competitions(neurons)),
        draw(st.integers(0, 2**16)),
    )


@st.composite
def linear_cases(draw: st.DrawFn) -> Case:
    batch, inputs, neurons = (draw(st.integers(1, n)) for n in (6, 20, 7))
    return Case(
        (batch, inputs),
        (neurons, inputs),
        draw(st.booleans()),
        draw(competitions(neurons)),
        draw(st.integers(0, 2**16)),
    )


@dataclass
class Extreme:
    """A layer far from the order of 1 whose pre-activations are exact, so that y can be compared.

    x, the weights and the bias are small whole numbers times powers of two.
    """

    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    with_bias: bool
    options: dict
    x_exponent: int
    w_exponent: int
    seed: int

    def tensors(self, dtype=torch.float32) -> tuple[Tensor, Tensor, Tensor | None]:
        generator = torch.Generator().manual_seed(self.seed)

        def draw(shape, exponent):
            whole = torch.randint(-3, 4, shape, generator=generator).double()
            return (whole * 2.0**exponent).to(dtype)

        x, weight = draw(self.x_shape, self.x_exponent), draw(self.weight_shape, self.w_exponent)
        power = self.options["lebesgue_p"] - 1
        bias = draw(self.weight_shape[:1], int(self.x_exponent + power * self.w_exponent))
        return x, weight, bias if self.with_bias else None


@st.composite
def extremes(draw: st.DrawFn, dtype=torch.float32, lebesgue: bool = True) -> Extreme:
    """Convolutions and linear layers whose u, y u and D neither overflow nor vanish in ``dtype``.

    t times the smallest difference of u goes from far below 1 to far above the largest t u that has
    digits behind the point.
    """
    widest = {torch.float64: 900, torch.float16: 6}.get(dtype, 105)
    p = draw(st.sampled_from([2.0, 3.0])) if lebesgue else 2.0
    w_exponent = draw(st.integers(-widest // 2, widest // 2))
    of_u = int(p - 1) * w_exponent  # what the exponent of x adds up to that of u, and D
    low, high = max(-widest, -widest - of_u), min(widest, widest - of_u, widest - of_u - w_exponent)
    x_exponent = draw(st.integers(low, max(low, high)))
    groups, channels = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    neurons = draw(st.sampled_from([1, 2, 4, 8]))  # of which a mean is exact
    t = draw(st.sampled_from([1.0, 3.0, 100.0])) * 2.0 ** draw(st.integers(-90, 90))
    competing = {
        "t_invert": draw(
            st.sampled_from([t, 100.0, min(1e30, max(1e-30, 2.0 ** -(x_exponent + of_u)))])
        ),
        "wta": draw(st.sampled_from(WTA)),
        "rank": draw(st.integers(1, neurons)),
        "lebesgue_p": p,
    }
    rest = (x_exponent, w_exponent, draw(st.integers(0, 2**16)))
    biased = draw(st.booleans())
    if draw(st.booleans()):
        inputs, batch = draw(st.integers(1, 5)), draw(st.integers(1, 4))
        return Extreme((batch, inputs), (neurons, inputs), biased, competing, *rest)
    kernel = draw(st.integers(1, 3))
    geometry = {
        "groups": groups,
        "padding": (kernel // 2, kernel // 2),
        "padding_mode": "zeros",
        "pre_triangle": draw(st.booleans()),
    }
    size = draw(st.integers(3, 5))
    x_shape = (draw(st.integers(1, 2)), channels * groups, size, size)
    w_shape = (neurons * groups, channels, kernel, kernel)
    return Extreme(x_shape, w_shape, biased, geometry | competing, *rest)
