"""What the parts of a layer, activations and initialisations give, and the balls of it."""

from __future__ import annotations

import torch

from benchmarks.fire.calls import after, bounds
from benchmarks.fire.calls.arguments import Call
from benchmarks.fire.calls.balls import Ball, Sums, number
from benchmarks.fire.calls.bounds import Layer
from benchmarks.fire.calls.competing import Backend, compete, softmax
from benchmarks.fire.calls.layers import Bounds, Outputs, Tensors, layer_of, named, stepped
from softhebb_fast import functional, init, nn
from softhebb_fast.options import Competition, Rate, Rule


def run_part(call: Call, tensors: Tensors) -> Outputs:
    found = getattr(functional, call.name)(**tensors, **call.options)
    return named(found)


def only_u(call: Call, t: Tensors, p: str = "u") -> Layer:
    """A layer of which nothing but its competition is asked."""
    u, groups = t[p], call.options["groups"]
    own = {key: call.options[key] for key in Competition._fields if key in call.options}
    nothing = Ball.given(torch.zeros(groups, 1, 1), Sums.of(u.dtype))
    places = (u.shape[0], *u.shape[2:])
    competition = Competition(**own)
    overwrite = call.options.get("overwrite", False)
    return Layer(nothing, nothing, None, competition, Rule(), Backend(), overwrite, places=places)


def judge_soft_wta(call: Call, t: Tensors) -> Bounds:
    layer, u = only_u(call, t), t["u"]
    given = Ball.given(bounds.of_groups(u, call.options["groups"]), layer.sums)
    y = after.of_places(
        compete(given, layer.competition, layer.backend, layer.overwrite), layer.places
    )
    return {"out": y.rounded(u.dtype)}


def judge_statistics(call: Call, t: Tensors) -> Bounds:
    layer, u = only_u(call, t), t["u"]
    c = layer.competition
    layer = layer._replace(competition=c._replace(wta="soft" if c.soft else "hard"))
    given = Ball.given(bounds.of_groups(u, call.options["groups"]), layer.sums)
    p = compete(given, layer.competition, layer.backend, layer.overwrite)
    count = number(p.mid.shape[0] * p.mid.shape[1], layer.sums)
    share = p.sum(1).over(number(p.mid.shape[1], layer.sums)).map(torch.flatten)
    most = p.through(lambda v: v.amax(dim=2)).map(torch.flatten).sum(0).over(count)
    nats = torch.special.entr(p.mid.clamp(min=0))
    # |d entr| <= |ln p| + 1 near p, and entr is below sqrt(p) near 0
    slope = 1 - p.low.clamp(min=layer.sums.tiny).log()
    rad = (p.rad * slope).nan_to_num(0, torch.inf)
    entropy = Ball(torch.where(p.mid.isnan(), p.mid, nats), rad, layer.sums)
    entropy = entropy.map(torch.flatten).sum(0).over(count)
    entropy = entropy.over(number(torch.log(torch.tensor(2.0).double()), layer.sums))
    return {"share": share, "winner_probability": most, "entropy": entropy}


def judge_update(call: Call, t: Tensors) -> Bounds:
    layer, _ = layer_of(call, {key: t[key] for key in ("x", "weight")})
    groups = layer.x.mid.shape[0]
    batched = t["x"].dim() == t["weight"].dim()
    y, u = (t[k] if batched else t[k].unsqueeze(0) for k in ("y", "u"))
    y, u = (Ball.given(bounds.of_groups(v, groups), layer.sums) for v in (y, u))
    found = bounds.update(u, layer, bounds.Activity(y, y, None)).delta_w
    weight = t["weight"]
    return {"out": found.map(lambda v: v.reshape(weight.shape)).rounded(weight.dtype)}


def judge_rate(call: Call, t: Tensors) -> Bounds:
    weight, o = t["weight"], call.options
    rows = Ball.given(weight.flatten(1), Sums.of(weight.dtype))
    return {"out": after.rates(rows, Rate(o["lr"], o["lr_power"]), o["lebesgue_p"])}


def judge_step(call: Call, t: Tensors) -> Bounds:
    delta_w = Ball.given(t["delta_w"], Sums.of(t["weight"].dtype))
    return {"out": stepped(call, t, delta_w, call.options["lebesgue_p"])}


PARTS: dict[str, tuple] = {
    "soft_wta": (run_part, judge_soft_wta),
    "competition_statistics": (run_part, judge_statistics),
    "hebbian_update": (run_part, judge_update),
    "norm_dependent_rate": (run_part, judge_rate),
    "hebbian_step_": (run_part, judge_step, "weight"),
}


def run_activation(call: Call, tensors: Tensors) -> Outputs:
    return {"out": getattr(nn, call.name)(**call.options)(tensors["u"])}


def judge_activation(call: Call, t: Tensors) -> Bounds:
    u, channels = t["u"], 0 if t["u"].dim() == 1 else 1
    sums = Sums.of(u.dtype)
    eps = torch.finfo(u.dtype).eps / 2
    given = Ball.given(u.movedim(channels, -1), sums)  # [..., K]
    if call.name == "TopShare":
        count = given.mid.shape[-1]
        kept = min(max(round(call.options["share"] * count), 1), count - 1)
        threshold = given.mid.sort(dim=-1).values[..., count - kept - 1, None]
        out = after.rectified(given.minus(Ball.given(threshold, sums)))
    elif call.name == "Softmax":
        competition = Competition(call.options["t_invert"], "soft")
        flat = given.map(lambda v: v.reshape(1, -1, v.shape[-1]))
        flat = flat._replace(sums=sums._replace(eps=max(eps, sums.eps)))
        out = softmax(flat, competition, Backend()).map(lambda v: v.view(given.mid.shape))
    else:
        if call.name in ("Triangle", "SplitTriangle"):
            n = number(given.mid.shape[-1], sums)
            mean = given.sum(-1).over(n).rounded(u.dtype)
            given = given.minus(mean.map(lambda v: v.unsqueeze(-1))).rounded(u.dtype)
        if call.name == "SplitTriangle":
            mid, rad = torch.cat((given.mid, -given.mid), -1), torch.cat((given.rad, given.rad), -1)
            given = given._replace(mid=mid, rad=rad)
        power = call.options["power"]
        out = after.rectified(given)
        if power != 1:
            out = out.power(power)
    return {"out": out.map(lambda v: v.movedim(-1, channels)).rounded(u.dtype)}


INITS = {name: function for name, function in {**init.INITS, **init.FROM_DATA}.items()}


def run_init(call: Call, tensors: Tensors) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    options = dict(call.options)
    if options.pop("seeded", False):
        options["generator"] = generator
    return {"out": INITS[call.name](**tensors, **options)}


def judge_init(call: Call, t: Tensors) -> Bounds:
    """As in float64, from the same numbers."""
    wide = {key: value.double().clone() for key, value in t.items()}
    found = run_init(call, wide)["out"]
    dtype = t["weight"].dtype
    info = torch.finfo(dtype)
    rad = found.abs() * info.eps + info.smallest_normal * info.eps
    mid = torch.where(found.abs() > info.max, torch.inf * found.sign(), found)
    rad = torch.where(found.abs() > info.max * (1 - info.eps), torch.inf, rad)
    return {"out": Ball(mid, rad, Sums.of(dtype))}
