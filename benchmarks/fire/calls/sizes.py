"""Sizes of layers, drawn by hypothesis."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from softhebb_fast.kinds import PADDING_MODES


class Size(NamedTuple):
    """Of a layer: what it sees, its weight, u."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    u: tuple[int, ...]
    geometry: dict[str, Any]


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw: st.DrawFn, one_row: bool = False, small: bool = False) -> Size:
    """With one output position at least, and a padding that its mode allows."""
    groups = draw(st.integers(1, 2 if small else 3))
    neurons, channels = draw(st.sampled_from([1, 2, 3, 5, 7])), draw(st.integers(1, 3))
    batch = draw(st.sampled_from([1, 2, 0, 3]))
    if not small and not one_row and draw(st.integers(0, 19)) == 0:
        size = draw(st.sampled_from([4, 5, 7]))  # where Winograd's method is used
        width = draw(st.sampled_from([64, 67])), draw(st.sampled_from([32, 37]))
        mode = draw(st.sampled_from(PADDING_MODES))
        geometry = {"padding": (1, 1), "padding_mode": mode}
        x = (max(batch, 1), width[1], size, size)
        return Size(x, (*width, 3, 3), (x[0], width[0], size, size), geometry)
    mode = draw(st.sampled_from(PADDING_MODES))
    kernel, stride = draw(pairs(1, 3)), draw(pairs(1, 2))
    dilation, padding = draw(pairs(1, 2)), draw(pairs(0, 2))
    least = {"reflect": 1, "circular": 0}.get(mode, -2)
    size = tuple(
        max(1, p + least, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    given: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    if one_row:
        kernel, size = (1, kernel[1]), (1, size[1])
        stride, padding, dilation = (1, stride[1]), (0, padding[1]), (1, dilation[1])
        given = {name: pair[1] for name, pair in given.items()}
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if one_row:
        size, kernel, out = size[1:], kernel[1:], out[1:]
    x, weight = (batch, channels * groups, *size), (neurons * groups, channels, *kernel)
    u = (batch, neurons * groups, *out)
    if draw(st.integers(0, 5)) == 0:
        x, u = x[1:], u[1:]
    return Size(x, weight, u, {**given, "groups": groups, "padding_mode": mode})


@st.composite
def products(draw: st.DrawFn, small: bool = False) -> Size:
    batch = draw(st.sampled_from([1, 2, 0, 5, 67]))
    inputs, neurons = draw(st.sampled_from([1, 2, 5, 13])), draw(st.sampled_from([1, 2, 3, 7, 17]))
    if not small and draw(st.integers(0, 19)) == 0:  # more weights than a tile has
        inputs, neurons = 521, 127
    lead = draw(st.sampled_from([(batch,), (batch, 2), ()]))
    return Size((*lead, inputs), (neurons, inputs), (*lead, neurons), {})
