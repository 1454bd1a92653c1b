"""What layers and modules give, and the balls of it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.fire.calls import after, bounds
from benchmarks.fire.calls.arguments import Call
from benchmarks.fire.calls.balls import Ball, Sums
from benchmarks.fire.calls.bounds import Layer
from benchmarks.fire.calls.competing import Backend
from softhebb_fast import functional, nn
from softhebb_fast.kinds import RULES
from softhebb_fast.options import Competition, Convolution, Rate, Rule, pair

Tensors = dict[str, Tensor]
Outputs = dict[str, Tensor | float | None]
Bounds = dict[str, Ball | None]
SIZES = ("stride", "padding", "dilation")


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
        tiny = 2.0**-24 if weight.dtype == torch.float16 else 0.0
        learns = "epilogue" not in call.options or call.options.get("update") is not None
        terms = 1 + (learns and weight.dtype != torch.float32)
        own = {"nan_loses": True, "own_biases": True, "knows_signs": False}
        return Backend(eps, tiny, product=weight.dtype, terms=terms, **own)
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
    backend = profile(call, weight, convolution)
    given = Ball.given(weight.reshape(groups, len(weight) // groups, -1), sums)
    bias = t.get("bias")
    layer = Layer(
        Ball.given(found, sums),
        given,
        None if bias is None else Ball.given(bias.view(groups, -1), sums),
        competition,
        rule,
        backend,
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
        out = after.pooled(u.maybe_rounded(dtype), call.options["epilogue"], layer.places)
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
        either = delta_w.maybe_rounded(dtype)
        found["weight"] = stepped(call, t, either, layer.competition.lebesgue_p)
        found["delta_w"] = None
    return found


def stepped(call: Call, t: Tensors, delta_w: Ball, p: float) -> Ball:
    weight, options = t["weight"], call.options
    power = options.get("lr_power")
    if power is None:
        power = RULES[options["rule"]].lr_power if "rule" in options else 0.5
    rate = Rate(options["lr"], power, None, t.get("neuron_rates"), options.get("unit_norm", False))
    rows = Ball.given(weight.flatten(1), Sums.of(weight.dtype))
    direction = delta_w.map(lambda v: v.flatten(1))
    if call.backend == "triton":  # which takes norms as infinite, or as 0, that leave float32
        plain = after.stepped(rows, direction, rate._replace(unit_norm=False), p, torch.float64)
        before, then = (t.mid.abs().pow(p).sum(dim=1, keepdim=True) for t in (rows, plain))
        lost = before > rows.sums.largest
        if rate.unit_norm:
            lost |= (then > rows.sums.largest) | (then < rows.sums.tiny)
        direction = direction._replace(rad=torch.where(lost, torch.inf, direction.rad))
    moved = after.stepped(rows, direction, rate, p, weight.dtype)
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
        narrow = t["x"].dtype in (torch.float16, torch.bfloat16)
        spread = narrow and not all(t[name].isfinite().all() for name in ("x", "weight"))
        passed_over = bool(call.options.get("padding")) and not layer.weight.isfinite().all()
        own = {"product": t["x"].dtype, "own_products": not (spread or passed_over)}
        found = found._replace(backend=found.backend._replace(**own))
    u = bounds.pre_activations(found)
    given = after.of_places(u, found.places).map(lambda v: v.reshape(shape)).rounded(t["x"].dtype)
    if call.name == "SoftHebbBlock":
        rounded = u.maybe_rounded(t["x"].dtype)
        given = after.of_places(after.rectified(after.centred(rounded)), found.places)
        given = given.map(lambda v: v.reshape(shape)).rounded(t["x"].dtype)
    if not module.training:
        return {"u": given}
    delta_w = bounds.update(u, found).delta_w.map(lambda v: v.reshape(t["weight"].shape))
    if call.options.get("update") != "in_place":
        return {"u": given, "delta_w": delta_w.rounded(t["x"].dtype)}
    either = delta_w.maybe_rounded(t["x"].dtype)
    return {"u": given, "weight": stepped(call, t, either, found.competition.lebesgue_p)}
