"""What the public functions refuse, and that the message names the argument and what came."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softhebb_fast.functional import (
    competition_statistics,
    hebbian_step_,
    hebbian_update,
    norm_dependent_rate,
    soft_wta,
    softhebb_conv1d,
    softhebb_conv2d,
    softhebb_linear,
)


def image(*shape: int, **kwargs) -> torch.Tensor:
    return torch.ones(*(shape or (2, 4, 6, 6)), **kwargs)


def filters(*shape: int, **kwargs) -> torch.Tensor:
    return torch.ones(*(shape or (6, 4, 3, 3)), **kwargs)


def conv(x=None, weight=None, bias=None, **options):
    x, weight = image() if x is None else x, filters() if weight is None else weight
    return softhebb_conv2d(x, weight, bias, **options)


def update(x=(2, 4, 6, 6), y=(2, 6, 4, 4), u=(2, 6, 4, 4), weight=(6, 4, 3, 3), **options):
    return hebbian_update(*(torch.ones(shape) for shape in (x, y, u, weight)), **options)


LINEAR = (torch.ones(2, 5), torch.ones(3, 5))
HALF, INT = {"dtype": torch.float16}, {"dtype": torch.int64}
META = {"device": "meta"}

VALUE_ERRORS = {
    "x has 2 dimensions": (lambda: conv(image(6, 6)), r"^x must be \[B, C, H, W\] or .*got \(6, 6"),
    "weight has 3 dimensions": (lambda: conv(weight=filters(6, 4, 3)), r"^weight must be \[K, C"),
    "channels": (lambda: conv(image(2, 3, 6, 6)), r"^x must have 4 channels .*got \(2, 3, 6, 6\)"),
    "channels of groups": (lambda: conv(groups=2), r"^x must have 8 channels .*groups=2"),
    "bias shape": (lambda: conv(bias=torch.ones(5)), r"^bias must be \[6\]; got \(5,\)"),
    "empty image": (lambda: conv(image(2, 4, 0, 6)), r"^x must not be empty; got \(2, 4, 0, 6\)"),
    "empty kernel": (lambda: conv(weight=filters(6, 4, 0, 3)), r"^weight must not be empty"),
    "no filters": (lambda: conv(weight=filters(0, 4, 3, 3)), r"^weight must hold at least one"),
    "stride 0": (lambda: conv(stride=0), r"^stride must be at least 1; got 0"),
    "stride (1, 0)": (lambda: conv(stride=(1, 0)), r"^stride must be at least 1; got \(1, 0\)"),
    "dilation 0": (lambda: conv(dilation=0), r"^dilation must be at least 1; got 0"),
    "padding -1": (lambda: conv(padding=-1), r"^padding must be at least 0; got -1"),
    "groups 0": (lambda: conv(groups=0), r"^groups must be a positive divisor of the 6 .*got 0"),
    "groups 4": (lambda: conv(groups=4), r"^groups must be a positive divisor of the 6 .*got 4"),
    "padding": (lambda: conv(padding="full"), r"^padding must be numbers, 'same' or .*'full'"),
    "same with strides": (
        lambda: conv(padding="same", stride=2),
        r"^padding='same' needs",
    ),
    "padding_mode": (lambda: conv(padding_mode="same"), r"^padding_mode must be .*got 'same'"),
    "reflect padding": (
        lambda: conv(padding=6),
        r"^padding must be smaller than the image .*'reflect'; got \(6, 6\) .* 6x6",
    ),
    "circular padding": (
        lambda: conv(padding=(0, 7), padding_mode="circular"),
        r"^padding must be at most the image .*'circular'; got \(0, 7\)",
    ),
    "empty output": (lambda: conv(dilation=3), r"^the output would be empty, 0x0: x is \(2, 4, 6"),
    "wta": (lambda: conv(wta="winner"), r"^wta must be one of soft_anti.*; got 'winner'"),
    "t_invert 0": (lambda: conv(t_invert=0), r"^t_invert must be positive and finite; got 0"),
    "t_invert inf": (lambda: conv(t_invert=float("inf")), r"^t_invert must be .*got inf"),
    "t_invert nan": (lambda: conv(t_invert=float("nan")), r"^t_invert must be .*got nan"),
    "rank 0": (lambda: conv(wta="hard_anti", rank=0), r"^rank must lie in 1\.\.6.*got 0"),
    "rank 7": (lambda: conv(wta="hard_anti", rank=7), r"^rank must lie in 1\.\.6.*got 7"),
    "rank in a group": (
        lambda: conv(weight=filters(6, 2, 3, 3), groups=2, wta="hard_anti", rank=4),
        r"^rank must lie in 1\.\.3.*got 4",
    ),
    "lebesgue_p": (lambda: conv(lebesgue_p=0.5), r"^lebesgue_p must be at least 1.*got 0\.5"),
    "backend": (lambda: conv(backend="cuda"), r"^backend must be one of auto.*; got 'cuda'"),
    "conv1d x": (lambda: softhebb_conv1d(image(6), filters(6, 4, 3)), r"^x must have 3 dim"),
    "conv1d weight": (lambda: softhebb_conv1d(image(2, 4, 6), filters()), r"^weight must have 3"),
    "linear x": (lambda: softhebb_linear(torch.ones(6), LINEAR[1]), r"^x must be \[\.\.\., 5\]"),
    "linear features": (
        lambda: softhebb_linear(torch.ones(2, 4), LINEAR[1]),
        r"^x must be \[\.\.\., 5\]; got \(2, 4\)",
    ),
    "linear weight": (lambda: softhebb_linear(LINEAR[0], filters()), r"^weight must be \[K, N\]"),
    "linear without features": (
        lambda: softhebb_linear(torch.ones(2, 0), torch.ones(3, 0)),
        r"^x must not be empty; got \(2, 0\)",
    ),
    "linear bias": (
        lambda: softhebb_linear(*LINEAR, torch.ones(3, 1)),
        r"^bias must be \[3\]; got \(3, 1\)",
    ),
    "linear rank": (
        lambda: softhebb_linear(*LINEAR, wta="hard_anti", rank=4),
        r"^rank must lie in 1\.\.3",
    ),
    "soft_wta u": (lambda: soft_wta(torch.ones(3)), r"^u must be \[B, K, \.\.\.\]; got \(3,\)"),
    "soft_wta groups": (lambda: soft_wta(torch.ones(1, 3), groups=2), r"^groups must .* 3 filters"),
    "soft_wta wta": (lambda: soft_wta(torch.ones(1, 3), wta="max"), r"^wta must be one of"),
    "update y": (lambda: update(y=(2, 6, 6, 6)), r"^y must be \(2, 6, 4, 4\); got \(2, 6, 6, 6\)"),
    "update u": (lambda: update(u=(1, 6, 4, 4)), r"^u must be \(2, 6, 4, 4\); got \(1, 6, 4, 4\)"),
    "update x": (
        lambda: update((2, 7, 5), (2, 7, 3), (2, 7, 3), (3, 5)),
        r"^x must be \[B, 5\]; got \(2, 7, 5\)",
    ),
    "update weight": (lambda: update(weight=(6, 4, 3)), r"^weight must be \[K, N\]; got \(6, 4"),
    "statistics groups": (
        lambda: competition_statistics(torch.ones(1, 3), groups=2),
        r"^groups must be a positive divisor of the 3 filters; got 2",
    ),
    "rate of a vector": (lambda: norm_dependent_rate(torch.ones(3), 0.1), r"^weight must have neu"),
    "rate lebesgue_p": (
        lambda: norm_dependent_rate(filters(), 0.1, lebesgue_p=0),
        r"^lebesgue_p must be at least 1 and finite; got 0",
    ),
    "step delta_w": (
        lambda: hebbian_step_(filters(), filters(1, 4, 3, 3), 0.1),
        r"^delta_w must be \(6, 4, 3, 3\); got \(1, 4, 3, 3\)",
    ),
}

TYPE_ERRORS = {
    "x is an array": (lambda: conv(np.ones((2, 4, 6, 6))), r"^x must be a torch.Tensor; got ndarr"),
    "weight is a list": (lambda: conv(weight=[1.0]), r"^weight must be a torch.Tensor; got list"),
    "bias is a number": (lambda: conv(bias=1.0), r"^bias must be a torch.Tensor; got float"),
    "linear x is a list": (lambda: softhebb_linear([1.0], LINEAR[1]), r"^x must be a torch.Tensor"),
    "conv1d x is a list": (lambda: softhebb_conv1d([1.0], filters()), r"^x must be a torch.Tensor"),
    "u is a list": (lambda: soft_wta([1.0]), r"^u must be a torch.Tensor; got list"),
    "y is a list": (
        lambda: hebbian_update(image(), [1.0], image(), filters()),
        r"^y must be a torch.Tensor; got list",
    ),
    "delta_w is a list": (
        lambda: hebbian_step_(filters(), [1.0], 0.1),
        r"^delta_w must be a torch",
    ),
    "integers": (
        lambda: conv(image(**INT), filters(**INT)),
        r"^x must be float64.*got torch.int64",
    ),
    "dtype of x": (
        lambda: conv(image(**HALF)),
        r"^x must have the dtype of weight, torch.float32; got torch.float16.*x\.to",
    ),
    "dtype of bias": (lambda: conv(bias=torch.ones(6, **HALF)), r"^bias must have the dtype of we"),
    "dtype of y": (
        lambda: hebbian_update(*LINEAR[:1], torch.ones(2, 3, **HALF), torch.ones(2, 3), LINEAR[1]),
        r"^y must have the dtype of weight, torch.float32; got torch.float16",
    ),
    "dtype of u": (lambda: soft_wta(torch.ones(1, 3, **INT)), r"^u must be a floating point tens"),
    "device of x": (
        lambda: conv(image(**META)),
        r"^x must have the device of weight, cpu; got meta.*x\.to",
    ),
    "device of bias": (lambda: conv(bias=torch.ones(6, **META)), r"^bias must have the device"),
    "device of linear x": (
        lambda: softhebb_linear(torch.ones(2, 5, **META), LINEAR[1]),
        r"^x must have the device of weight, cpu; got meta",
    ),
    "stride is a float": (lambda: conv(stride=1.0), r"^stride must be an int or a pair.*got 1\.0"),
    "stride is a bool": (lambda: conv(stride=True), r"^stride must be an int or a pair.*got True"),
    "three strides": (lambda: conv(stride=(1, 1, 1)), r"^stride must be an int or a pair"),
    "padding is a float": (lambda: conv(padding=0.5), r"^padding must be an int or .*0\.5"),
    "dilation of floats": (lambda: conv(dilation=(1, 1.0)), r"^dilation must be an int or a pair"),
    "groups is a bool": (lambda: conv(groups=True), r"^groups must be an int; got True"),
    "groups is a float": (lambda: soft_wta(torch.ones(1, 3), groups=1.0), r"^groups must be an in"),
    "t_invert is a name": (lambda: conv(t_invert="12"), r"^t_invert must be a number; got '12'"),
    "delta is None": (lambda: conv(delta=None), r"^delta must be a number; got None"),
    "rank is a float": (lambda: conv(rank=2.0), r"^rank must be an int; got 2\.0"),
    "lebesgue_p is a name": (lambda: conv(lebesgue_p="2"), r"^lebesgue_p must be a number"),
}


@pytest.mark.parametrize(("call", "message"), VALUE_ERRORS.values(), ids=VALUE_ERRORS)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("call", "message"), TYPE_ERRORS.values(), ids=TYPE_ERRORS)
def test_bad_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_the_largest_legal_paddings_run():
    assert conv(padding=5).u.shape == (2, 6, 14, 14)
    assert conv(padding=6, padding_mode="circular").u.shape == (2, 6, 16, 16)
    assert conv(padding=9, padding_mode="zeros").u.shape == (2, 6, 22, 22)
    assert conv(padding=9, padding_mode="replicate").u.shape == (2, 6, 22, 22)


def test_hard_anti_alone_reads_the_rank():
    assert conv(wta="soft", rank=99).delta_w.shape == (6, 4, 3, 3)
