"""Norm-dependent and noisy steps of optimizers: arguments, calls and balls."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.fire.calls import after
from benchmarks.fire.calls.arguments import DTYPES, Call, drawn
from benchmarks.fire.calls.balls import Ball, Sums, number
from benchmarks.fire.calls.layers import Bounds, Outputs, Tensors
from softhebb_fast import optim
from softhebb_fast.options import Rate

SHAPES = ((3, 5), (1, 1), (7, 2, 3, 3), (17, 3), (2, 13))
INNER = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}
LRS = (0.1, 1e-3, 1.0)


@st.composite
def steps(draw: st.DrawFn, name: str) -> Call:
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    tensors = {key: draw(drawn(shape, dtype)) for key in ("weight", "grad")}
    options: dict[str, Any] = {"lr": draw(st.sampled_from(LRS))}
    if name == "norm_dependent":
        options |= {"optimizer": draw(st.sampled_from(sorted(INNER)))}
        options |= {"lr_power": draw(st.sampled_from([0.5, 0.0, 1.0, 2.0, -0.5]))}
        options["lebesgue_p"] = draw(st.sampled_from([2.0, 1.0, 3.0, 1.5]))
    elif name == "TensorLRSGD":
        tensors["lr"] = draw(drawn(shape[:1], "float64" if dtype == "float64" else "float32"))
        del options["lr"]
        options["weight_decay"] = draw(st.sampled_from([0.0, 0.1]))
        options["maximize"] = draw(st.booleans())
    elif name == "WeightNormDependentLR":
        options["power_lr"] = draw(st.sampled_from([0.5, 0.0, 1.0, 2.0, -0.5]))
    else:
        options["size"] = draw(st.sampled_from([1.0, 1e-3, 1e-12, 10]))
    return Call(name, "torch", tensors, options)


def parameter(tensors: Tensors) -> nn.Parameter:
    p = nn.Parameter(tensors["weight"].clone())
    p.grad = tensors["grad"].clone()
    return p


def run_step(call: Call, tensors: Tensors) -> Outputs:
    p, o = parameter(tensors), dict(call.options)
    if call.name == "WeightNormDependentLR":
        optimizer = optim.TensorLRSGD([p], lr=o["lr"], maximize=True)
        optim.WeightNormDependentLR(optimizer, o["power_lr"])
        return {"rates": optimizer.param_groups[0]["lr"].flatten()}
    if call.name == "TensorLRSGD":
        group = {"params": [p], "lr": tensors["lr"].clone()}
        optim.TensorLRSGD([group], **o).step()
        return {"out": p.detach()}
    if call.name == "gradient_noise":
        optimizer = torch.optim.SGD([p], lr=o["lr"])
        optim.gradient_noise(optimizer, o["size"])
        torch.manual_seed(0)
        optimizer.step()
        return {"grad": p.grad}
    kind = INNER.get(o["optimizer"])
    optimizer = kind([p], lr=o["lr"], maximize=True) if kind else o["optimizer"]
    optim.norm_dependent(optimizer, o["lr_power"], o["lebesgue_p"])
    optimizer.step()
    return {"out": p.detach()}


def judge_step(call: Call, t: Tensors) -> Bounds:
    o, dtype = call.options, t["weight"].dtype
    sums = Sums.of(dtype)
    weight, grad = (Ball.given(t[key], sums) for key in ("weight", "grad"))
    rows = weight.map(lambda v: v.flatten(1))
    if call.name == "WeightNormDependentLR":
        return {"rates": after.rates(rows, Rate(o["lr"], o["power_lr"]), 2.0)}
    if call.name == "TensorLRSGD":
        d = grad.map(torch.neg) if o["maximize"] else grad
        d = d._replace(rad=grad.rad)
        d = d.plus(weight.times(number(o["weight_decay"], sums))).rounded(dtype)
        step = column(Ball.given(t["lr"], sums), t["weight"]).times(d).rounded(dtype)
        return {"out": weight.minus(step).rounded(dtype)}
    if call.name == "gradient_noise":
        torch.manual_seed(0)
        noise = Ball.given(torch.randn_like(t["grad"]), sums)
        noise = noise.times(number(o["size"], sums).rounded(dtype))
        return {"grad": grad.plus(noise).rounded(dtype)}
    p = parameter(t)
    INNER[o["optimizer"]]([p], lr=o["lr"], maximize=True).step()
    change = Ball.given(p, sums).minus(weight).rounded(dtype)
    factor = column(after.rates(rows, Rate(1.0, o["lr_power"]), o["lebesgue_p"]), t["weight"])
    return {"out": weight.plus(factor.times(change)).rounded(dtype)}


def column(rates: Ball, weight: Tensor) -> Ball:
    return rates.map(lambda v: v.view(-1, *[1] * (weight.dim() - 1)))
