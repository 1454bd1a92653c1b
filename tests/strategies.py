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
