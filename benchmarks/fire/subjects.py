"""What a call gives, and what it must give: a ball for every number of every output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.fire import after, bounds
from benchmarks.fire.arguments import ACTIVATIONS, MODULES, Call
from benchmarks.fire.balls import FEW, Ball, Sums, number
from benchmarks.fire.bounds import Layer
from benchmarks.fire.competing import Backend, compete, softmax
from softhebb_fast import functional, init, nn
from softhebb_fast.kinds import RULES
from softhebb_fast.options import Competition, Convolution, Rate, Rule, pair

Tensors = dict[str, Tensor]
Outputs = dict[str, Tensor | float | None]
Bounds = dict[str, Ball | None]


class Subject(NamedTuple):
    """How a function is called, and the balls of what it gives.

    Attributes:
        run: gives its outputs.
        judge: of the same tensors before they were changed.
        writes: the tensors that it changes.
    """

    run: Callable[[Call, Tensors], Outputs]
    judge: Callable[[Call, Tensors], Bounds]
    writes: tuple[str, ...] = ()


def subject(call: Call) -> Subject:
    if call.name in MODULES:
        return Subject(run_module, judge_module)
    if call.name in ACTIVATIONS:
        return Subject(run_activation, judge_activation)
    if call.name in PARTS:
        run, judge, *writes = PARTS[call.name]
        return Subject(run, judge, tuple(writes))
    if call.name in INITS:
        return Subject(run_init, judge_init, ("weight", "bias"))
    steps = call.name.endswith("_step_") or call.options.get("update") == "in_place"
    return Subject(run_layer, judge_layer, ("weight",) if steps else ())


def named(out: Any) -> Outputs:
    return {"out": out} if isinstance(out, Tensor) else out._asdict()


def run_layer(call: Call, tensors: Tensors) -> Outputs:
    backend = "auto" if call.backend == "triton" else call.backend
    given = {"backend": backend, **tensors, **call.options}
    found = named(getattr(functional, call.name)(**given))
    steps = call.name.endswith("_step_") or call.options.get("update") == "in_place"
    return found | {"weight": tensors["weight"]} if steps else found


def competition_of(call: Call) -> tuple[Competition, Rule]:
    """The options of a layer with their defaults."""
    o = call.options
    own = {key: o[key] for key in Competition._fields if key in o}
    if "rule" not in o:
        return Competition(**own), Rule()
    kind = RULES[o["rule"]]
    own = dict(kind.competition) | own
    if kind.wta:
        own["wta"] = kind.wta
    rule = Rule(kind.activity, kind.gain, kind.nearest, o.get("normalise") or kind.normalise)
    return Competition(**own), rule._replace(decay=o.get("decay", 0.0))


def profile(call: Call, weight: Tensor, convolution: Convolution | None) -> Backend:
    if call.backend == "triton":
        eps = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(weight.dtype, 2.0**-21)
        return Backend(eps, nan_loses=True)
    kernel = tuple(weight.shape[2:])
    fits = convolution is not None and kernel == (3, 3) and convolution.stride == (1, 1)
    return Backend(winograd=fits and len(weight) >= 64)


def layer_of(call: Call, t: Tensors) -> tuple[Layer, tuple[int, ...]]:
    """The layer in groups of patches, and the shape of its u."""
    competition, rule = competition_of(call)
    x, weight, sums = t["x"], t["weight"], Sums.of(t["x"].dtype)
    linear = weight.dim() == 2
    convolution = None
    if linear:
        places = (x[..., 0].numel(),)
        found, lead, groups = x.reshape(1, -1, x.shape[-1]), tuple(x.shape[:-1]), 1
        shape = (*lead, len(weight))
    else:
        convolution, x, weight = convolution_of(call, x, weight)
        lead = tuple(x.shape[: x.dim() - 3])
        batch = x if x.dim() == 4 else x.unsqueeze(0)
        found, places = bounds.patches(batch, weight, convolution)
        groups = convolution.groups
        shape = (*lead, len(weight), *places[1:])
        if t["weight"].dim() == 3 or call.name.endswith("1d"):
            shape = (*shape[:-2], shape[-1])
    rule = rule._replace(**rule_tensors(t, lead, places, len(weight)))
    given = Ball.given(weight.reshape(groups, len(weight) // groups, -1), sums)
    bias = t.get("bias")
    layer = Layer(
        Ball.given(found, sums),
        given,
        None if bias is None else Ball.given(bias.view(groups, -1), sums),
        competition,
        rule,
        profile(call, weight, convolution),
        overwrite=linear,
        pre_triangle=bool(call.options.get("pre_triangle", False)),
        places=places,
    )
    return layer, shape


def convolution_of(call: Call, x: Tensor, weight: Tensor) -> tuple[Convolution, Tensor, Tensor]:
    own = {key: call.options[key] for key in Convolution._fields if key in call.options}
    if weight.dim() == 3:
        weight = weight.unsqueeze(2)
    if call.name.rstrip("_").endswith("1d"):
        own |= {key: (0 if key == "padding" else 1, own[key]) for key in SIZES if key in own}
        x = x.unsqueeze(-2)
    own |= {key: pair(own[key], key, 0) for key in SIZES if key in own}
    return Convolution(**own), x, weight


SIZES = ("stride", "padding", "dilation")


def rule_tensors(
    t: Tensors, lead: tuple[int, ...], places: tuple[int, ...], neurons: int
) -> Tensors:
    """Those of a rule, for every place."""
    found = {key: t[key].double() for key in ("threshold", "counts", "lateral") if key in t}
    batch, rest = places[0], places[1:]
    target = t.get("target")
    if target is not None:
        if not target.is_floating_point():
            target = F.one_hot(target.reshape(-1).long(), neurons)
        target = target.double()
        full = target.numel() == batch * neurons * torch.Size(rest).numel() and batch > 0
        if full:
            target = target.reshape(batch, neurons, *rest)
        else:
            target = target.reshape(batch, neurons, *[1] * len(rest)).expand(batch, neurons, *rest)
        found["target"] = target
    modulator = t.get("modulator")
    if modulator is not None:
        full = modulator.shape != torch.Size(lead)
        shape = places if full else (batch, *[1] * len(rest))
        found["modulator"] = modulator.double().reshape(shape).expand(places)
    return found


def judge_layer(call: Call, t: Tensors) -> Bounds:
    layer, shape = layer_of(call, t)
    dtype, weight = t["x"].dtype, t["weight"]
    u = bounds.pre_activations(layer)
    given = after.of_places(u, layer.places)
    if "epilogue" in call.options:
        out = after.pooled(maybe_rounded(u, dtype), call.options["epilogue"], layer.places)
        out = out.rounded(dtype)
        found: Bounds = {"out": out if t["x"].dim() == 4 else out.map(lambda v: v.squeeze(0))}
        if call.options.get("update") is None:
            return found | dict.fromkeys(("delta_w", "delta_b"))
    else:
        if given.mid.dim() == 2:  # [P, K]
            given = given.map(lambda v: v.reshape(shape))
        else:
            given = given.map(lambda v: v.reshape(shape))
        found = {"u": given.rounded(dtype)}
    update = bounds.update(u, layer)
    found["delta_b"] = None if update.delta_b is None else update.delta_b.rounded(dtype)
    found["statistic"] = update.statistic
    delta_w = update.delta_w.map(lambda v: v.reshape(weight.shape))
    found["delta_w"] = delta_w.rounded(dtype)
    if call.name.endswith("_step_") or call.options.get("update") == "in_place":
        either = maybe_rounded(delta_w, dtype)
        found["weight"] = stepped(call, t, either, layer.competition.lebesgue_p)
        found["delta_w"] = None
    return found


def maybe_rounded(u: Ball, dtype: torch.dtype) -> Ball:
    """Numbers as they are, or as they are in ``dtype``, where they may be infinite."""
    rounded = u.rounded(dtype)
    infinite = rounded.mid.isinf() & u.mid.isfinite()
    return Ball(u.mid, torch.where(infinite, torch.inf, rounded.rad), u.sums)


def stepped(call: Call, t: Tensors, delta_w: Ball, p: float) -> Ball:
    weight, options = t["weight"], call.options
    power = options.get("lr_power")
    if power is None:
        power = RULES[options["rule"]].lr_power if "rule" in options else 0.5
    rate = Rate(options["lr"], power, None, t.get("neuron_rates"), options.get("unit_norm", False))
    rows = Ball.given(weight.flatten(1), Sums.of(weight.dtype))
    moved = after.stepped(rows, delta_w.map(lambda v: v.flatten(1)), rate, p, weight.dtype)
    return moved.map(lambda v: v.view(weight.shape))


def built(call: Call, t: Tensors) -> torch.nn.Module:
    options = dict(call.options)
    train = options.pop("train", True)
    more = {"batch_norm": False} if call.name == "SoftHebbBlock" else {}
    module = getattr(nn, call.name)(
        **options, **more, backend=call.backend, dtype=t["weight"].dtype
    )
    with torch.no_grad():
        weight = getattr(module, "layer", module).weight
        weight.copy_(
            t["weight"].view_as(weight)
            if t["weight"].is_contiguous()
            else t["weight"].reshape(weight.shape)
        )
    return module.train(train)


def run_module(call: Call, tensors: Tensors) -> Outputs:
    module = built(call, tensors)
    layer = getattr(module, "layer", module)
    given = {key: tensors[key] for key in ("target", "modulator") if key in tensors}
    out = {"u": module(tensors["x"], **given).detach()}
    if not module.training:
        return out
    if call.options.get("update") == "in_place":
        return out | {"weight": layer.weight.detach()}
    return out | {"delta_w": layer.weight.grad}


def judge_module(call: Call, t: Tensors) -> Bounds:
    module = built(call, t)
    layer = getattr(module, "layer", module)
    own = {"bias": layer.bias} | {
        key: getattr(layer, key, None) for key in ("threshold", "counts", "lateral")
    }
    t = t | {key: value.detach() for key, value in own.items() if value is not None}
    t["weight"] = layer.weight.detach()
    found, shape = layer_of(call, t)
    if not module.training:
        found = found._replace(backend=found.backend._replace(product=t["x"].dtype))
    u = bounds.pre_activations(found)
    given = after.of_places(u, found.places).map(lambda v: v.reshape(shape)).rounded(t["x"].dtype)
    if call.name == "SoftHebbBlock":
        rounded = maybe_rounded(u, t["x"].dtype)
        given = after.of_places(after.rectified(after.centred(rounded)), found.places)
        given = given.map(lambda v: v.reshape(shape)).rounded(t["x"].dtype)
    if not module.training:
        return {"u": given}
    delta_w = bounds.update(u, found).delta_w.map(lambda v: v.reshape(t["weight"].shape))
    if call.options.get("update") != "in_place":
        return {"u": given, "delta_w": delta_w.rounded(t["x"].dtype)}
    either = maybe_rounded(delta_w, t["x"].dtype)
    return {"u": given, "weight": stepped(call, t, either, found.competition.lebesgue_p)}


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
        if call.name == "Triangle":
            n = number(given.mid.shape[-1], sums)
            mean = given.sum(-1).over(n).rounded(u.dtype)
            given = given.minus(mean.map(lambda v: v.unsqueeze(-1))).rounded(u.dtype)
        power = call.options["power"]
        out = after.rectified(given)
        if power != 1:
            out = out.through(lambda v: v.clamp(min=0) ** power, FEW * max(1, power))
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
