"""Random tensors and options of the public calls, drawn from a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.functional import Epilogue

WTA = ("soft_anti", "soft", "hard", "hard_anti")
DTYPES = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = ("contiguous", "channels_last", "sliced", "flipped")


def tensors(draw: random.Random) -> tuple[Tensor, Tensor, Tensor | None]:
    """An image batch, filters and perhaps a bias; some filters are equal, some values are not
    finite."""
    dtype, groups = draw.choice(DTYPES), draw.choice([1, 1, 1, 2, 3])
    channels, neurons = groups * draw.choice([1, 2, 3, 16]), groups * draw.choice([2, 5, 33, 96])
    rows, columns = draw.choice([(1, 1), (3, 3), (3, 3), (5, 5), (2, 3)])
    shape = draw.choice([0, 1, 2, 5]), channels, draw.choice([8, 11, 16]), draw.choice([8, 13, 16])
    generator = torch.Generator().manual_seed(draw.randrange(1 << 30))
    x = laid_out(torch.randn(shape, generator=generator).to(dtype), draw.choice(LAYOUTS))
    w = torch.randn(neurons, channels // groups, rows, columns, generator=generator) / 3
    w = w.to(dtype)
    if draw.random() < 0.3:
        w[draw.randrange(neurons)] = w[0]
    w = laid_out(w, draw.choice(LAYOUTS[:2]))
    if draw.random() < 0.05 and x.numel():
        x[0, 0, 0, 0] = draw.choice([float("nan"), float("inf"), 1e30])
    bias = torch.randn(neurons, generator=generator).to(dtype) if draw.random() < 0.4 else None
    return x, w, bias


def laid_out(t: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return t.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        return F.pad(t, (1, 2, 0, 1))[:, :, : t.shape[2], 1 : 1 + t.shape[3]]
    return t.mT.contiguous().mT if layout == "flipped" else t


def convolution(draw: random.Random, x: Tensor, w: Tensor) -> dict:
    groups, (rows, columns) = x.shape[1] // w.shape[1], w.shape[2:]
    mode = draw.choice(["reflect", "zeros", "replicate", "circular"])
    dilation = draw.choice([1, 1, 2]) if max(rows, columns) < 5 else 1
    return {
        **competition(draw, w.shape[0] // groups),
        "stride": draw.choice([1, 1, 2, (2, 1), 3]),
        "padding": draw.choice([0, 1, 2, (1, 2)]),
        "dilation": dilation,
        "groups": groups,
        "padding_mode": mode,
        "pre_triangle": draw.random() < 0.2,
    }


def competition(draw: random.Random, neurons: int) -> dict:
    return {
        "t_invert": draw.choice([0.5, 1.0, 12.0, 96.0]),
        "wta": draw.choice(WTA),
        "delta": draw.choice([0.1, 2.0, -1.0]),
        "rank": draw.randint(1, min(neurons, 4)),
        "lebesgue_p": draw.choice([2.0, 2.0, 2.0, 1.0, 3.0]),
        "tie_rule": draw.choice(["first", "first", "spread"]),
    }


def epilogue(draw: random.Random) -> Epilogue:
    kernel, stride, padding = draw.choice(
        [((1, 1), (1, 1), (0, 0)), ((2, 2), (2, 2), (0, 0)), ((2, 2), (1, 2), (1, 0))]
    )
    power = draw.choice([1.0, 0.5, 2.0, 0.7])
    pool = draw.choice(["max", "avg"])
    return Epilogue(draw.random() < 0.7, power, pool, kernel, stride, padding)


@contextmanager
def environment(values: dict[str, str | None]) -> Iterator[None]:
    """These variables for a while; None leaves one as it is."""
    values = {name: value for name, value in values.items() if value is not None}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
