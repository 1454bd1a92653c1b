"""What lives: layers of every rule, blocks and networks, each made anew from its plan."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from softhebb_fast import nn as hebbian
from softhebb_fast.kinds import RULES, TIE_RULES, UPDATES, WTA
from softhebb_fast.models import build
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.optim import ExponentialDecay, LinearDecay
from softhebb_fast.options import Rule

NETWORK = (
    "softkrotov-c4-k3-p1-t1-lr0.05-r3:triangle_0.7:max_4_2_1",
    "{rule}-c6-k3-p1-g2-lr0.05-r3:batchnorm2d:topshare_0.4:avg_2_2_0",
    "BP",  # without dropout, which takes other random numbers where it is compiled
)


def own(u: Tensor) -> Tensor:
    """A competition of one's own."""
    return torch.softmax(2 * u, 1)


@dataclass(frozen=True)
class Plan:
    """Of a module that is made anew.

    Attributes:
        kind: "layer", "pair" (two that share their weights), "block", "whitened block" or
            "network".
        layer: the name of the layer's class in ``softhebb_fast.nn``.
        sizes: its arguments by position.
        options: its arguments by name, as they are now.
        shape: of a batch.
    """

    kind: str
    layer: str
    sizes: tuple[int, ...]
    options: dict[str, Any]
    shape: tuple[int, ...]

    @property
    def names(self) -> tuple[str, str]:
        """What it is, and the rule by which it learns."""
        words = {"layer": self.layer, "pair": "two layers that share their weights"}
        rule = self.options.get("rule", "softhebb")
        return words.get(self.kind, self.kind), getattr(rule, "__name__", rule)

    def fresh(self) -> nn.Module:
        """Made now, with weights of torch's generator. Raises what the options raise."""
        if self.kind == "network":
            rule = self.options["rule"]
            net = build([text.format(rule=rule) for text in NETWORK], self.shape[1:], 3)
            put(net, {name: v for name, v in self.options.items() if name != "rule"})
            return net
        layer = self._layer()
        if self.kind == "block":
            norm, pool = nn.BatchNorm2d(self.sizes[0], affine=False), nn.MaxPool2d(2)
            return hebbian.Block(layer, norm=norm, activation=hebbian.Triangle(0.7), pool=pool)
        if self.kind == "whitened block":
            norm = hebbian.PatchWhitening(2, 3, padding=1)
            norm.fit(torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0)))
            return hebbian.Block(layer, norm=norm, activation=hebbian.RePU(2.0))
        return layer if self.kind == "layer" else Pair(layer, self._layer())

    def _layer(self) -> HebbianLayer:
        made = dict(self.options)
        if (rates := made.get("neuron_rates")) is not None:
            made["neuron_rates"] = torch.tensor(rates)
        return getattr(hebbian, self.layer)(*self.sizes, **made)

    def changed(self, options: dict[str, Any]) -> Plan | None:
        """With other options; None where a module of them cannot be made, or has no such."""
        known = inspect.signature(getattr(hebbian, self.layer)).parameters
        if self.kind != "network" and not options.keys() <= known.keys():
            return None
        other = replace(self, options=self.options | options)
        try:
            other.fresh()
        except (TypeError, ValueError):
            return None
        return other

    def batch(self, seed: int, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
        """What a forward is given: x, and the target of a rule that wants one."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(self.shape, generator=generator).to(dtype)
        rule = self.options.get("rule", "softhebb")
        if self.kind == "network" or callable(rule) or "target" not in Rule.of(rule).wants:
            return x, {}
        return x, {"target": torch.randint(self.sizes[1], self.shape[:1], generator=generator)}


class Pair(nn.Module):
    """Two layers, one behind the other, that share weight and bias."""

    def __init__(self, first: HebbianLayer, second: HebbianLayer) -> None:
        super().__init__()
        second.weight, second.bias = first.weight, first.bias
        self.first, self.second = first, second

    def forward(self, x: Tensor, **given: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x, **given)), **given)


def layers(module: nn.Module) -> list[HebbianLayer]:
    return [part for part in module.modules() if isinstance(part, HebbianLayer)]


def put(module: nn.Module, options: dict[str, Any]) -> None:
    """Set ``options`` in all layers of a module, as a user does."""
    for layer in layers(module):
        for name, value in options.items():
            setattr(layer, name, value)


SCHEDULES = st.sampled_from([LinearDecay(0.1, 9), ExponentialDecay(0.05, 20)])
OPTIONS = {
    "t_invert": st.sampled_from([1.0, 4.0]),
    "lebesgue_p": st.sampled_from([2.0, 3.0]),
    "tie_rule": st.sampled_from(TIE_RULES),
    "update": st.sampled_from(UPDATES),
    "backend": st.sampled_from(["auto", "reference"]),
    "lr": st.sampled_from([0.0, 0.02, 0.2]),
    "lr_power": st.sampled_from([0.0, 0.5, 1.0]),
    "rounding": st.sampled_from(["nearest", "stochastic"]),
    "wta": st.sampled_from(WTA),
    "delta": st.sampled_from([0.1, 2.0]),
    "rank": st.integers(1, 2),
    "pre_triangle": st.booleans(),
    "decay": st.sampled_from([0.0, 0.01]),
    "momentum": st.sampled_from([0.1, 1.0]),
    "unit_norm": st.booleans(),
}
LATER = {"schedule": SCHEDULES, "conscience": st.sampled_from([0.1, 1.0])}
CHANGES = st.one_of([st.fixed_dictionaries({n: s}) for n, s in (OPTIONS | LATER).items()])


def changeable(plan: Plan, options: dict[str, Any]) -> bool:
    """Whether a layer of ``plan`` may be given ``options``: it keeps the state that they need, and
    does not ask a schedule for the rate instead."""
    now = plan.options
    if "schedule" in options and not now.get("schedule"):
        return False
    if "lr" in options and now.get("schedule"):
        return False
    return "conscience" not in options or bool(now.get("conscience"))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    kind = draw(st.sampled_from(["layer"] * 4 + ["pair", "block", "whitened block", "network"]))
    if kind == "network":
        rule = draw(st.sampled_from(["softkrotov", "hardkrotov", "oja", "bcm", "kmeans"]))
        return Plan(kind, "HebbianConv2d", (), {"rule": rule}, (3, 1, 8, 8))
    ruled = kind != "whitened block" and draw(st.integers(0, 3)) > 0
    shape = "Conv2d" if kind in ("block", "whitened block") else draw(st.sampled_from(SHAPES))
    options = {"radius": 3.0, "rank": 2, **_of_layer(draw, ruled)}
    if kind == "whitened block":
        return Plan(kind, "SoftHebbConv2d", (18, 4, 1), options, (3, 2, 6, 6))
    inputs = 4 if kind == "pair" else 2
    if shape != "Linear":
        options |= {
            "padding": 1 if kind == "pair" else draw(st.sampled_from([0, 1, "same"])),
            "groups": draw(st.integers(1, 2)),
            "padding_mode": draw(st.sampled_from(["reflect", "zeros", "circular"])),
        }
    sizes = (inputs, 4) if shape == "Linear" else (inputs, 4, 3)
    batch = {"Linear": (5, inputs), "Conv1d": (3, inputs, 7), "Conv2d": (2, inputs, 6, 5)}[shape]
    return Plan(kind, f"{'Hebbian' if ruled else 'SoftHebb'}{shape}", sizes, options, batch)


SHAPES = ("Conv2d", "Conv1d", "Linear")


def _of_layer(draw: st.DrawFn, ruled: bool) -> dict[str, Any]:
    names = ["t_invert", "lebesgue_p", "tie_rule", "update", "rounding"]
    options = {name: draw(OPTIONS[name]) for name in names}
    options["bias"] = draw(st.booleans())
    in_place = options["update"] == "in_place"
    if in_place and draw(st.booleans()):
        options["schedule"] = draw(SCHEDULES)
    else:
        options["lr"] = draw(OPTIONS["lr"])
    if not ruled:
        return {**options, "wta": draw(OPTIONS["wta"]), "backend": draw(OPTIONS["backend"])}
    options["rule"] = rule = draw(st.sampled_from([*RULES, own]))
    if draw(st.booleans()):
        options["neuron_rates"] = (1.0, 0.0, 0.5, 1.0)
    if rule in ("instar", "kmeans") and draw(st.booleans()):
        options |= {"conscience": 0.5, "wta": "hard"}
    more = {name: draw(OPTIONS[name]) for name in ("decay", "momentum")}
    return options | more | ({"unit_norm": draw(st.booleans())} if in_place else {})
