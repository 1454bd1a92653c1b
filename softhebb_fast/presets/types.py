"""What a preset is made of: Layer, Pool and Preset, immutable and checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from softhebb_fast.kinds import KINDS, PADDING_MODES, WTA
from softhebb_fast.scalars import number, plain, whole

Kind = Literal["conv", "linear"]
Schedule = Literal["norm", "linear", "exponential", "constant"]
PoolKind = Literal["max", "avg"]
Origin = Literal["SoftHebb", "ZerO-SoftHebb", "softhebb_fast"]

RULES = (*WTA, "bp", "supervised")
ACTIVATIONS = (
    *("triangle", "relu", "repu", "softmax", "topshare"),
    *("exp", "tanh", "sigmoid", "hard"),
)

DEFAULTS: dict[str, dict[str, Any]] = {
    "conv": {
        "t_invert": 96.0,
        "lr": 0.009,
        "lr_power": 0.75,
        "radius": 25.0,
        "delta": 2.0,
        "batch_norm": True,
    },
    "linear": {
        "t_invert": 10.0,
        "lr": 0.05,
        "lr_power": 0.2,
        "radius": 10.0,
        "delta": 0.1,
        "batch_norm": False,
    },
}
BY_KIND: Any = None  # replaced by DEFAULTS[kind] when the layer is made


@dataclass(frozen=True)
class Pool:
    """A square pooling window; max pools pad with -inf, avg pools count the padding.

    Raises:
        ValueError: for an unknown kind, a window or stride below 1, or padding above kernel // 2.
    """

    kind: PoolKind
    kernel: int
    stride: int
    padding: int = 0

    def __post_init__(self) -> None:
        _one_of(self, "kind", get_args(PoolKind))
        _whole(self, "kernel", 1)
        _whole(self, "stride", 1)
        _whole(self, "padding", 0)
        if self.padding > self.kernel // 2:
            raise ValueError(
                f"Pool: padding must be at most kernel // 2 = {self.kernel // 2}, "
                f"got {self.padding}"
            )

    def __str__(self) -> str:
        return f"{self.kind} {self.kernel}/{self.stride}/{self.padding}"


@dataclass(frozen=True)
class Layer:
    """One block of a network: [batch norm] -> [dropout] -> layer -> [activation] -> [pool].

    `out` counts filters (conv) or neurons (linear); None stands for the number of classes and is
    kept for a linear layer that learns from labels. A linear layer flattens its input. Fields
    left at BY_KIND take the published defaults of convolutional or fully connected layers
    (DEFAULTS). Rules read only the fields they need: `t_invert` (1/temperature) is for the soft
    rules, `delta` and `rank` are for hard_anti, and "bp" (backpropagation) reads none of the
    learning fields: its rate is `Preset.lr_supervised`.

    `lr` and `lr_power` are eta and q of eta * (| ||W|| - 1 | + 1e-10)^q under the schedule
    "norm"; under the other schedules `lr` is where the decay starts. `radius` is the filter norm
    that the initialisation aims at. `activation` is (name, parameter).
    Source: Journé et al. 2023 (arXiv 2209.11883), and the published SoftHebb code.

    Raises:
        ValueError: for a field outside its range, naming it; for a rule, kernel or batch norm
            that does not fit the kind; for `out` not divisible by `groups`.

    Of a convolution: `kernel`, `padding`, `stride`, `dilation`, `groups` and `padding_mode`;
    `pre_triangle` rectifies u before the competition, `batch_norm` normalises the input, `pool`
    comes last. `lebesgue_p` is the exponent of the norm, `bias` adds a learned prior, `dropout`
    acts on the input.
    """

    kind: Kind
    rule: str
    out: int | None = None
    kernel: int = 0
    padding: int = 0
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    t_invert: float = BY_KIND
    lr: float = BY_KIND
    lr_power: float = BY_KIND
    lebesgue_p: float = 2.0
    radius: float = BY_KIND
    delta: float = BY_KIND
    rank: int = 3
    bias: bool = False
    schedule: Schedule = "norm"
    pre_triangle: bool = False
    padding_mode: str = "reflect"
    batch_norm: bool = BY_KIND
    activation: tuple[str, float] | None = None
    pool: Pool | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _one_of(self, "kind", get_args(Kind))
        for name, value in DEFAULTS[self.kind].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        _one_of(self, "rule", RULES)
        _one_of(self, "schedule", get_args(Schedule))
        _one_of(self, "padding_mode", PADDING_MODES)
        for name, least in (("stride", 1), ("dilation", 1), ("groups", 1), ("rank", 1)):
            _whole(self, name, least)
        for name in ("lr", "lr_power", "delta", "dropout"):
            _number(self, name, least=0.0)
        for name in ("t_invert", "lebesgue_p", "radius"):
            _number(self, name, above=0.0)
        for name in ("bias", "pre_triangle", "batch_norm"):
            object.__setattr__(self, name, plain(getattr(self, name)))
            _one_of(self, name, (False, True))
        if self.dropout >= 1:
            raise ValueError(f"Layer: dropout must be below 1, got {self.dropout}")
        self._check_activation()
        self._check_kind()

    def _check_activation(self) -> None:
        match self.activation:
            case None:
                return
            case (name, power) if name in ACTIVATIONS:
                power = plain(power)
                if isinstance(power, int | float) and math.isfinite(power):
                    object.__setattr__(self, "activation", (name, float(power)))
                    return
        raise ValueError(
            f"Layer: activation must be None or (name, number) with a name among "
            f"{', '.join(ACTIVATIONS)}, got {self.activation!r}"
        )

    def _check_kind(self) -> None:
        _whole(self, "padding", 0)
        if self.kind == "conv":
            _whole(self, "kernel", 1)
            if self.rule == "supervised":
                raise ValueError("Layer: rule 'supervised' exists for linear layers, got a conv")
        else:
            for name, value in {
                "kernel": 0,
                "padding": 0,
                "stride": 1,
                "dilation": 1,
                "groups": 1,
                "pre_triangle": False,
                "batch_norm": False,
                "pool": None,
            }.items():
                if getattr(self, name) != value:
                    raise ValueError(
                        f"Layer: {name} is for conv layers, got {getattr(self, name)!r} for a "
                        f"linear one; leave it at {value!r} or give the layer a kernel"
                    )
        if self.out is None and self.kind == "linear" and self.rule in ("bp", "supervised"):
            return
        _whole(self, "out", 1)
        if self.out % self.groups:
            raise ValueError(
                f"Layer: out must be divisible by groups, got out={self.out}, groups={self.groups}"
            )

    @property
    def hebbian(self) -> bool:
        """Whether the layer learns by a local rule, not by backpropagation."""
        return self.rule != "bp"

    def __str__(self) -> str:
        return "  ".join(part for part in (self._shape(), self._learning(), self._around()) if part)

    def _shape(self) -> str:
        text = f"{self.kind:<6} {'classes' if self.out is None else self.out:>7}"
        if self.kind == "linear":
            return text
        extras = {"s": self.stride, "d": self.dilation, "g": self.groups}
        more = "".join(f" {key}{value}" for key, value in extras.items() if value != 1)
        return f"{text}  k{self.kernel} p{self.padding}{more}"

    def _learning(self) -> str:
        if self.rule == "bp":
            return "bp"
        text, kind = self.rule, KINDS.get(self.rule)
        if kind is None or kind.soft:
            text += f" t={self.t_invert:g}"
        elif kind.anti:
            text += f" delta={self.delta:g} rank={self.rank}"
        rate = f" q={self.lr_power:g}" if self.schedule == "norm" else f" {self.schedule} decay"
        text += f" lr={self.lr:g}{rate} R={self.radius:g}"
        return text + (f" lp={self.lebesgue_p:g}" if self.lebesgue_p != 2 else "")

    def _around(self) -> str:
        parts = [
            "bn" if self.batch_norm else "",
            f"dropout {self.dropout:g}" if self.dropout else "",
            "bias" if self.bias else "",
            "pre_triangle" if self.pre_triangle else "",
            f"{self.activation[0]}({self.activation[1]:g})" if self.activation else "",
            str(self.pool or ""),
        ]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Preset:
    """A named network: its layers from input to classifier, and the rate of what backpropagates.

    `lr_supervised` is Adam's rate for the "bp" layers.

    Raises:
        ValueError: for no layers, a conv layer after a linear one, an open `out` before the last
            layer, channels not divisible by the next layer's groups, or a rate that is not
            positive.

    `name` is what `get_preset` takes, `source` whose network it is.
    """

    name: str
    layers: tuple[Layer, ...]
    source: Origin = "softhebb_fast"
    lr_supervised: float = 1e-3

    def __post_init__(self) -> None:
        _one_of(self, "source", get_args(Origin))
        _number(self, "lr_supervised", above=0.0)
        if not (isinstance(self.layers, tuple) and self.layers):
            raise ValueError(
                f"Preset {self.name!r}: layers must be a tuple of one Layer or more, "
                f"got {self.layers!r}"
            )
        for place, (below, layer) in enumerate(pairwise(self.layers), start=1):
            where = f"Preset {self.name!r}: layer {place}"
            if below.out is None:
                raise ValueError(f"{where} follows a layer that has out=None; give that a number")
            if layer.kind == "conv" and below.kind == "linear":
                raise ValueError(f"{where} is a conv after a linear layer; put convs first")
            if layer.kind == "conv" and below.out % layer.groups:
                raise ValueError(
                    f"{where} splits its input into groups={layer.groups}, which must divide "
                    f"the {below.out} outputs of the layer below"
                )

    def describe(self) -> str:
        """One line for the preset, then one indented line a layer; no trailing newline."""
        rate = f"  Adam {self.lr_supervised:g}" if any(not x.hebbian for x in self.layers) else ""
        rows = (f"  {layer}" for layer in self.layers)
        return "\n".join((f"{self.name}  [{self.source}]{rate}", *rows))


def _one_of(owner: object, name: str, choices: tuple[Any, ...]) -> None:
    value = getattr(owner, name)
    if value not in choices:
        allowed = ", ".join(map(repr, choices))
        raise ValueError(f"{type(owner).__name__}: {name} must be one of {allowed}, got {value!r}")


def _whole(owner: object, name: str, least: int) -> None:
    value = getattr(owner, name)
    try:
        object.__setattr__(owner, name, whole(name, value, least))
    except (TypeError, ValueError):
        raise ValueError(
            f"{type(owner).__name__}: {name} must be a whole number >= {least}, got {value!r}"
        ) from None


def _number(
    owner: object, name: str, *, least: float = -math.inf, above: float = -math.inf
) -> None:
    value = getattr(owner, name)
    try:
        found = number(name, value)
    except (TypeError, ValueError):
        found = math.nan
    if math.isfinite(found) and found >= least and found > above:
        object.__setattr__(owner, name, found)
    else:
        bound = f"> {above:g}" if above > least else f">= {least:g}"
        raise ValueError(
            f"{type(owner).__name__}: {name} must be a finite number {bound}, got {value!r}"
        )
