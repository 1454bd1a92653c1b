"""Who wins, neurons that start again, and measures of weights: arguments, calls and balls."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.fire.calls import bounds
from benchmarks.fire.calls.arguments import DTYPES, Call, drawn
from benchmarks.fire.calls.balls import FEW, Ball, Sums
from benchmarks.fire.calls.layers import Bounds, Outputs, Tensors, built, layer_of
from benchmarks.fire.calls.sizes import convolutions, products
from softhebb_fast import init, nn

SHAPES = ((3, 5), (1, 1), (7, 2, 3, 3), (17, 3), (2, 13))


@st.composite
def winnings(draw: st.DrawFn, name: str) -> Call:
    """Of plain layers; ``dead`` holds for the last neurons of a linear one."""
    dtype = draw(st.sampled_from(DTYPES))
    size = draw(
        products() if name == "reseed_" else st.one_of(products(), convolutions(small=True))
    )
    kind, w, options = "SoftHebbLinear", size.weight, dict(size.geometry)
    if len(w) == 2:
        options |= {"in_features": w[1], "out_features": w[0]}
    else:
        kind = "SoftHebbConv2d"
        channels = w[1] * options["groups"]
        options |= {"in_channels": channels, "out_channels": w[0], "kernel_size": w[2:]}
    tensors = {"x": draw(drawn(size.x, dtype)), "weight": draw(drawn(w, dtype))}
    spoilt: tuple[str, ...] = ()
    if name == "reseed_":
        options["dead"] = draw(st.integers(0, w[0]))
        x = tensors["x"].make().reshape(-1, w[1])
        spoilt = ("x",) * (int(x.any(dim=1).sum()) < options["dead"])
    return Call(name, "cpp", tensors, options | {"kind": kind}, spoilt)


def as_layer(call: Call) -> tuple[Call, int]:
    options = dict(call.options)
    kind, dead = options.pop("kind"), options.pop("dead", 0)
    return call._replace(name=kind, backend="reference", options=options), dead


def run_wins(call: Call, tensors: Tensors) -> Outputs:
    layer = built(as_layer(call)[0], tensors)
    if call.name == "wins":
        return {"out": nn.wins(layer, tensors["x"])}
    dead = as_layer(call)[1]
    if isinstance(dead, int):
        dead = torch.arange(len(layer.weight)) >= len(layer.weight) - dead
    new = nn.reseed_(layer, tensors["x"], dead, norm=2.0).detach().double()
    units = normalize(new[dead], dim=1)
    seeds = normalize(tensors["x"].double().reshape(-1, new.shape[1]), dim=1)
    far = torch.cdist(units, seeds, compute_mode="donot_use_mm_for_euclid_dist")
    return {"alive": new[~dead], "norms": new[dead].norm(dim=1), "far": nearest(far)}


def nearest(far: Tensor) -> Tensor:
    return far.amin(dim=1) if far.numel() else far.new_zeros(len(far))


def judge_wins(call: Call, t: Tensors) -> Bounds:
    inner, dead = as_layer(call)
    if call.name == "reseed_":
        sums, dtype = Sums.of(t["x"].dtype), t["x"].dtype
        alive = t["weight"].double()[: len(t["weight"]) - dead]
        still = Ball(alive, torch.zeros_like(alive), sums)
        rounding = torch.full((dead,), FEW * torch.finfo(dtype).eps * t["weight"].shape[1] ** 0.5)
        norms = Ball(torch.full((dead,), 2.0).double(), 2 * rounding.double(), sums)
        return {"alive": still, "norms": norms, "far": Ball(0 * norms.mid, norms.rad, sums)}
    layer, _ = layer_of(inner, t)
    u = bounds.pre_activations(layer).rounded(t["x"].dtype)
    low, high = [], []
    for k in range(u.mid.shape[-1]):
        others = [j for j in range(u.mid.shape[-1]) if j != k]
        if not others:
            low, high = [torch.ones_like(u.mid[..., 0])], [torch.ones_like(u.mid[..., 0])]
            break
        low.append(u.low[..., k] > u.high[..., others].amax(-1))
        high.append(u.high[..., k] >= u.low[..., others].amax(-1))
    counts = [torch.stack(v).double().sum(-1).t().flatten() for v in (low, high)]
    return {"out": Ball.between(*counts, u.sums)}


@st.composite
def measures(draw: st.DrawFn, name: str) -> Call:
    weight = draw(drawn(draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))))
    options = {"tolerance": draw(st.sampled_from([1e-3, 0.0]))} if name == "symmetry" else {}
    return Call(name, "torch", {"weight": weight}, options)


def run_measure(call: Call, tensors: Tensors) -> Outputs:
    weight = tensors["weight"]
    if call.name == "distinct_filters":
        return {"distinct": init.distinct_filters(weight)}
    if call.name == "diversity":
        return vars(init.diversity(weight))
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(weight)
    return vars(init.symmetry(model, **call.options)["weight"])


def judge_measure(call: Call, t: Tensors) -> Bounds:
    rows = t["weight"].double().flatten(1)
    sums, size = Sums.of(t["weight"].dtype), FEW + rows.numel()

    def near(value: Any, roundings: float = 0) -> Ball:
        mid = torch.as_tensor(value, dtype=torch.float64)
        return Ball(mid, roundings * sums.eps * mid.abs().clamp(min=sums.tiny), sums)

    distinct = near(len({tuple(row) for row in (rows + 0.0).tolist()}))
    if call.name == "distinct_filters":
        return {"distinct": distinct}
    if call.name == "symmetry":
        spread = near((rows.amax(0) - rows.amin(0)).max(), FEW)
        return {"channels": near(len(rows)), "distinct": distinct, "deviation": spread}
    norms = rows.norm(dim=1)
    units = normalize(rows, dim=1, eps=1e-300)
    pairs = (units @ units.t()).abs().triu(1).sum() / max(len(rows) * (len(rows) - 1) // 2, 1)
    cosine = Ball(pairs, torch.tensor(size * sums.eps).double(), sums)
    found = {"filters": near(len(rows)), "distinct": distinct, "mean_abs_cosine": cosine}
    found |= {"norm_mean": near(norms.mean(), size), "norm_min": near(norms.min(), size)}
    found |= {"norm_max": near(norms.max(), size), "nonzeros": near(int(rows.count_nonzero()))}
    return found | {"numel": near(rows.numel())}
