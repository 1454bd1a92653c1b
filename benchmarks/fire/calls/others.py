"""Schedules, optimizers, whitening, dropout and measures of weights: arguments, calls and balls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.fire.calls import bounds, measures, optimizers, schedules
from benchmarks.fire.calls.arguments import DTYPES, Call, drawn
from benchmarks.fire.calls.balls import FEW, Ball, Sums
from benchmarks.fire.calls.invalid import NOT_A_NUMBER, NOT_A_SIZE, NOT_POSITIVE, VALUES
from benchmarks.fire.calls.layers import Bounds, Outputs, Tensors
from benchmarks.fire.calls.sizes import pairs
from benchmarks.fire.calls.tensors import Drawn
from softhebb_fast import nn
from softhebb_fast.kinds import PADDING_MODES
from softhebb_fast.options import Convolution

LEVELS = 1 << 16


@st.composite
def dropouts(draw: st.DrawFn, name: str) -> Call:
    shape = draw(st.sampled_from([(), (5,), (0, 2), (7, 13), (3, 2, 5, 5), (40, 101)]))
    options = {"p": draw(st.sampled_from([0.5, 0.1, 0.0, 1.0, 1e-6, 0.99999, 0.999999]))}
    options |= {"inplace": draw(st.booleans()), "train": draw(st.booleans())}
    return Call(name, "torch", {"x": draw(drawn(shape, draw(st.sampled_from(DTYPES))))}, options)


def dropped(call: Call, x: Tensor) -> Tensor:
    options = dict(call.options)
    train = options.pop("train", True)
    module = nn.Dropout(**options).train(train)
    torch.manual_seed(0)
    return module(x)


def run_dropout(call: Call, tensors: Tensors) -> Outputs:
    x = tensors["x"]
    return {
        "out": dropped(call, x),
        "kept": float(dropped(call, torch.ones_like(x)).count_nonzero()),
    }


def judge_dropout(call: Call, t: Tensors) -> Bounds:
    """The mask is that of ones; of so many numbers it keeps about the share that it should."""
    x, p = t["x"], call.options["p"]
    sums = Sums.of(x.dtype)
    mask = dropped(call, torch.ones(x.shape, dtype=x.dtype)) != 0
    p = round(p * LEVELS) / LEVELS if call.options["train"] else 0.0
    scale = min(1 / (1 - p), torch.finfo(x.dtype).max) if p < 1 else 0.0
    mid = x.double() * mask * scale
    info = torch.finfo(x.dtype)
    rad = mid.abs() * info.eps * 2 * (p > 0)
    count = x.numel()
    spread = 7 * (count * p * (1 - p)) ** 0.5 + 7 * (0 < p < 1)
    share = Ball(torch.tensor(count * (1 - p)).double(), torch.tensor(spread).double(), sums)
    return {"out": Ball(mid, rad, sums), "kept": share}


@st.composite
def whitenings(draw: st.DrawFn, name: str) -> Call:
    channels, kernel = draw(st.integers(1, 3)), draw(pairs(1, 3))
    options: dict[str, Any] = {"in_channels": channels, "kernel_size": kernel}
    options |= {"stride": draw(pairs(1, 2)), "padding": draw(pairs(0, 2))}
    options["padding_mode"] = draw(st.sampled_from(PADDING_MODES))
    options["epsilon"] = draw(st.sampled_from([0.1, 1e-3, 1.0]))
    options["contrast"] = draw(st.sampled_from([None, 1.5e-4, 0.1, 1.0]))
    if draw(st.booleans()):
        size = channels * kernel[0] * kernel[1]
        options |= {"method": "pca", "components": draw(st.integers(1, size))}
    size = tuple(draw(st.integers(3, 7)) for _ in kernel)
    x = draw(drawn((draw(st.integers(2, 5)), channels, *size), draw(st.sampled_from(DTYPES))))
    return Call(name, "torch", {"images": x}, options)


def whitening(call: Call, images: Tensor) -> nn.PatchWhitening:
    dtype = getattr(images, "dtype", None)
    dtype = dtype if dtype in (getattr(torch, name) for name in DTYPES) else None
    return nn.PatchWhitening(**call.options, dtype=dtype).fit(images)


def run_whitening(call: Call, tensors: Tensors) -> Outputs:
    return {"out": whitening(call, tensors["images"])(tensors["images"])}


def judge_whitening(call: Call, t: Tensors) -> Bounds:
    x, module = t["images"], whitening(call, t["images"])
    dtype, sums = x.dtype, Sums.of(x.dtype)
    geometry = Convolution(module.stride, module.padding, padding_mode=module.padding_mode)
    rows, places = bounds.patches(x, module.weight, geometry)
    weight = Ball.given(module.weight.flatten(1).t(), sums)
    z = Ball.given(rows[0], sums).matmul(weight)
    if module.contrast is not None:
        z = z.rounded(dtype).over(
            deviations(rows[0].double(), module.contrast, sums).rounded(dtype)
        )
        z = z.rounded(dtype)
    z = z.plus(Ball.given(module.bias, sums)).rounded(dtype)
    return {"out": z.map(lambda v: v.view(*places, -1).permute(0, 3, 1, 2))}


def deviations(rows: Tensor, contrast: float, sums: Sums) -> Ball:
    """Of patches ``[P, N]``, whose squares lose digits to that of the mean, in float64."""
    wide = Sums.of(torch.float64)
    rad = (FEW + rows.shape[1]) * wide.eps * rows.square().mean(dim=1)
    variance = Ball(rows.var(dim=1, correction=0) + contrast, rad, sums)
    return variance.through(lambda v: v.clamp(min=contrast).sqrt(), 2).map(lambda v: v[:, None])


ALSO = {"images": ("x",), "in_channels": ("x",)}


class Other(NamedTuple):
    """How calls are drawn, made and judged, and values of arguments that must be refused."""

    draw: Callable[[str], st.SearchStrategy[Call]]
    run: Callable[[Call, Tensors], Outputs]
    judge: Callable[[Call, Tensors], Bounds]
    invalid: dict[str, tuple]


RATE = {"lr": (*NOT_A_NUMBER, 10**400)}
TOTAL = {"total_steps": (*NOT_A_NUMBER, 0, 0.5, -3, math.nan, 10**400)}
POSITIVE = NOT_A_NUMBER + NOT_POSITIVE
POWER = {"lr_power": ("1", None, [1.0], 1j, True, math.nan, math.inf)}
KINDS = {
    "schedule": (schedules.schedules, schedules.run_schedule, schedules.judge_schedule),
    "epochs": (schedules.epochs, schedules.run_epochs, schedules.judge_epochs),
    "optimizer": (optimizers.steps, optimizers.run_step, optimizers.judge_step),
    "wins": (measures.winnings, measures.run_wins, measures.judge_wins),
    "measure": (measures.measures, measures.run_measure, measures.judge_measure),
}
WEIGHTS = (
    *(Drawn((3,)), Drawn((3, 5), "int64", scale=3), Drawn((0, 5)), Drawn((2, 3, 4))),
    *([[1.0]], None),
)
IMAGES = (
    *(Drawn((2, 9, 7, 7)), Drawn((9, 7, 7)), Drawn((1, 3)), Drawn((2, 3, 7, 7), "complex64")),
    *(Drawn((2, 3, 7, 7), "int64", scale=3), "x", 3.0, None),
)
OTHERS: dict[str, Other] = {
    "Constant": Other(*KINDS["schedule"], RATE),
    "LinearDecay": Other(*KINDS["schedule"], RATE | TOTAL),
    "ExponentialDecay": Other(
        *KINDS["schedule"], RATE | TOTAL | {"speed": POSITIVE, "divisor": POSITIVE}
    ),
    "Milestones": Other(
        *KINDS["schedule"],
        RATE
        | {
            "milestones": (5, None, (-1,), (1.5,), ("2",), (True,)),
            "factor": (*NOT_A_NUMBER, 10**400),
            "warm_up": (-1, 1.5, "1", None, True),
        },
    ),
    "halving_epochs": Other(*KINDS["epochs"], {"epochs": (-1, 1.5, "20", None, True, math.nan)}),
    "CustomStepLR": Other(*KINDS["epochs"], {"nb_epochs": POSITIVE}),
    "norm_dependent": Other(
        *KINDS["optimizer"], POWER | {"lebesgue_p": VALUES["lebesgue_p"], "optimizer": ("none",)}
    ),
    "TensorLRSGD": Other(*KINDS["optimizer"], {"foreach": (True,), "fused": (True,)}),
    "WeightNormDependentLR": Other(*KINDS["optimizer"], {"power_lr": POWER["lr_power"]}),
    "gradient_noise": Other(*KINDS["optimizer"], {"size": POSITIVE}),
    "Dropout": Other(
        dropouts, run_dropout, judge_dropout, {"p": (-0.1, 1.5, "1", None, 1j, math.nan)}
    ),
    "PatchWhitening": Other(
        *(whitenings, run_whitening, judge_whitening),
        {
            "in_channels": VALUES["in_channels"],
            "kernel_size": NOT_A_SIZE,
            "stride": NOT_A_SIZE,
            "padding": VALUES["padding"],
            "padding_mode": VALUES["padding_mode"],
            "epsilon": POSITIVE,
            "contrast": (*(v for v in POSITIVE if v is not None),),
            "method": ("zero", None, 1),
            "components": (0, -1, 1.5, "2", True, 10**6),
            "images": IMAGES,
        },
    ),
    "wins": Other(*KINDS["wins"], {}),
    "reseed_": Other(*KINDS["wins"], {"dead": ([0], (True,), "x", 1.5, None)}),
    "distinct_filters": Other(*KINDS["measure"], {"weight": WEIGHTS}),
    "diversity": Other(*KINDS["measure"], {"weight": WEIGHTS}),
    "symmetry": Other(
        *KINDS["measure"], {"tolerance": ("1", None, 1j, -1.0, math.nan, math.inf, True)}
    ),
}


@st.composite
def others(draw: st.DrawFn) -> Call:
    name = draw(st.sampled_from(sorted(OTHERS)))
    return draw(OTHERS[name].draw(name))


@st.composite
def spoilt_others(draw: st.DrawFn) -> Call:
    """With one argument that does not fit."""
    name = draw(st.sampled_from([name for name in sorted(OTHERS) if OTHERS[name].invalid]))
    call, invalid = draw(OTHERS[name].draw(name)), OTHERS[name].invalid
    argument = draw(st.sampled_from(sorted(invalid)))
    value = draw(st.sampled_from(invalid[argument]))
    spoilt = (argument, *ALSO.get(argument, ()))
    if argument in call.tensors:
        return call._replace(tensors=call.tensors | {argument: value}, spoilt=spoilt)
    return call._replace(options=call.options | {argument: value}, spoilt=spoilt)
