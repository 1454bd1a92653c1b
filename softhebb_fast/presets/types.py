"""What a preset is made of: Layer, Pool and Preset, immutable and checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from softhebb_fast.kinds import KINDS, PADDING_MODES, WTA
from softhebb_fast.kinds import RULES as RULE_KINDS
from softhebb_fast.scalars import number, plain, whole

from .whitening import Whitening

Kind = Literal["conv", "linear"]
Schedule = Literal["norm", "linear", "exponential", "constant"]
PoolKind = Literal["max", "avg"]
Origin = Literal["SoftHebb", "ZerO-SoftHebb", "softhebb_fast"]

OTHERS = tuple(name for name in RULE_KINDS if name != "softhebb")  # which is each of WTA
TAUGHT = ("teacher", "delta_rule")  # by labels, one neuron a class
RULES = (*WTA, *OTHERS, "bp", "supervised")
ACTIVATIONS = (
    *("triangle", "relu", "repu", "softmax", "topshare", "split"),
    *("exp", "tanh", "sigmoid", "hard"),
)
USUAL = {"topshare": 0.4}  # numbers of activations that are left out: 1 for the others
WITHOUT_NUMBER = ("relu", "tanh")

DEFAULTS: dict[str, dict[str, Any]] = {
    "conv": {
        "t_invert": 96.0,
        "lr": 0.009,
        "lr_power": 0.75,
        "radius": 25.0,
        "delta": 2.0,
        "rank": 3,
        "batch_norm": True,
    },
    "linear": {
        "t_invert": 10.0,
        "lr": 0.05,
        "lr_power": 0.2,
        "radius": 10.0,
        "delta": 0.1,
        "rank": 3,
        "batch_norm": False,
    },
}
# By which base rate the rules that are not SoftHebb's learn, and from which norm they start.
STARTS: dict[str, dict[str, float]] = {
    "krotov": {"lr": 0.02, "radius": 1.0},
    "instar": {"lr": 0.5, "radius": 1.0},
    "kmeans": {"lr": 1.0, "radius": 1.0},
    "hebb": {"lr": 0.001, "radius": 1.0},
    "oja": {"lr": 0.001, "radius": 1.0},
    "sanger": {"lr": 0.01, "radius": 1.0},
    "bcm": {"lr": 0.001, "radius": 1.0},
    "teacher": {"lr": 0.01, "radius": 1.0},
    "delta_rule": {"lr": 0.01, "radius": 0.1, "t_invert": 1.0},
    "similarity": {"lr": 0.001, "radius": 1.0},
    "nonnegative_similarity": {"lr": 0.001, "radius": 1.0},
}
BY_KIND: Any = None  # replaced by defaults(kind, rule) when the layer is made


def defaults(kind: str, rule: str) -> dict[str, Any]:
    """What the fields BY_KIND stand for in a layer of that kind and rule."""
    if rule not in OTHERS:
        return DEFAULTS[kind]
    own = RULE_KINDS[rule]
    return {**DEFAULTS[kind], "lr_power": own.lr_power, **own.competition, **STARTS[rule]}


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
    """One block of a network: [normalisation] -> [dropout] -> layer -> [activation] -> [pool].

    `out` counts filters (conv) or neurons (linear); None stands for the number of classes and is
    kept for a linear layer that learns from labels. A linear layer flattens its input, and with
    `unit_length` divides every sample by its length. Fields left at BY_KIND take the published
    defaults of convolutional or fully connected layers (DEFAULTS), or those of the rule (STARTS).
    Rules read only the fields they need: `t_invert` (1/temperature) is for the soft rules, instar
    and delta_rule, `delta` and `rank` are for hard_anti and krotov, and "bp" (backpropagation)
    reads none of the learning fields: its rate is `Preset.lr_supervised`. The rules of TAUGHT
    learn from labels, one neuron a class; the neurons of "instar" compete by a softmax.

    `lr` and `lr_power` are eta and q of eta * (| ||W|| - 1 | + 1e-10)^q under the schedule
    "norm"; under the other schedules `lr` is where the decay starts. `radius` is the filter norm
    that the initialisation aims at. `activation` is (name, parameter).
    Source: Journé et al. 2023 (arXiv 2209.11883), and the published SoftHebb code.

    Raises:
        ValueError: for a field outside its range, naming it; for a rule, kernel or batch norm
            that does not fit the kind; for `out` not divisible by `groups`.

    Of a convolution: `kernel`, `padding`, `stride`, `dilation`, `groups` and `padding_mode`;
    `pre_triangle` rectifies u before the competition, `batch_norm` normalises the input, `pool`
    comes last. `whiten` takes the place of the batch norm: the layer then learns from whitened
    patches, each a whole. `lebesgue_p` is the exponent of the norm, `bias` adds a learned prior,
    `dropout` acts on the input.
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
    rank: int = BY_KIND
    bias: bool = False
    schedule: Schedule = "norm"
    pre_triangle: bool = False
    padding_mode: str = "reflect"
    batch_norm: bool = BY_KIND
    activation: tuple[str, float] | None = None
    pool: Pool | None = None
    dropout: float = 0.0
    whiten: Whitening | None = None
    unit_length: bool = False

    def __post_init__(self) -> None:
        _one_of(self, "kind", get_args(Kind))
        _one_of(self, "rule", RULES)
        self._check_whiten()
        for name, value in defaults(self.kind, self.rule).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        _one_of(self, "schedule", get_args(Schedule))
        _one_of(self, "padding_mode", PADDING_MODES)
        for name, least in (("stride", 1), ("dilation", 1), ("groups", 1), ("rank", 1)):
            _whole(self, name, least)
        for name in ("lr", "lr_power", "delta", "dropout"):
            _number(self, name, least=0.0)
        for name in ("t_invert", "lebesgue_p", "radius"):
            _number(self, name, above=0.0)
        for name in ("bias", "pre_triangle", "batch_norm", "unit_length"):
            object.__setattr__(self, name, plain(getattr(self, name)))
            _one_of(self, name, (False, True))
        if self.dropout >= 1:
            raise ValueError(f"Layer: dropout must be below 1, got {self.dropout}")
        self._check_activation()
        self._check_kind()

    def _check_whiten(self) -> None:
        if self.whiten is None:
            return
        if not isinstance(self.whiten, Whitening):
            raise ValueError(f"Layer: whiten must be a Whitening or None, got {self.whiten!r}")
        if self.batch_norm is None:
            object.__setattr__(self, "batch_norm", False)
        for name, value in {"batch_norm": False, "groups": 1, "dilation": 1}.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"Layer: {name} must be {value!r} for a layer of whitened patches, "
                    f"got {getattr(self, name)!r}"
                )

    def _check_activation(self) -> None:
        match self.activation:
            case None:
                return
            case (name, power) if name in ACTIVATIONS:
                power = plain(power)
                if name in WITHOUT_NUMBER and power != 1:
                    raise ValueError(
                        f"Layer: activation {name!r} has no parameter to change; got {power!r}"
                    )
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
            if self.unit_length:
                raise ValueError("Layer: unit_length is for linear layers, got True for a conv")
            if self.rule in ("supervised", *TAUGHT):
                raise ValueError(
                    f"Layer: rule {self.rule!r} exists for linear layers, which have a label to "
                    "learn; got a conv"
                )
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
                "whiten": None,
            }.items():
                if getattr(self, name) != value:
                    raise ValueError(
                        f"Layer: {name} is for conv layers, got {getattr(self, name)!r} for a "
                        f"linear one; leave it at {value!r} or give the layer a kernel"
                    )
        if self.out is None and self.kind == "linear" and self.learns_labels:
            return
        _whole(self, "out", 1)
        if self.out == 1 and self.activation and self.activation[0] == "topshare":
            raise ValueError("Layer: activation 'topshare' needs at least 2 neurons, got out=1")
        if self.out % self.groups:
            raise ValueError(
                f"Layer: out must be divisible by groups, got out={self.out}, groups={self.groups}"
            )

    @property
    def channels(self) -> int | None:
        """How many channels the layer passes on: twice `out` behind the activation "split"."""
        doubled = self.out is not None and self.activation and self.activation[0] == "split"
        return 2 * self.out if doubled else self.out

    @property
    def hebbian(self) -> bool:
        """Whether the layer learns by a local rule, not by backpropagation."""
        return self.rule != "bp"

    @property
    def learns_labels(self) -> bool:
        """Whether the rule is one that a classifier may have."""
        return self.rule in ("bp", "supervised", *TAUGHT)

    @property
    def wta(self) -> str | None:
        """The competition of the neurons, None if they do not compete."""
        if self.rule in OTHERS:
            return "soft" if self.rule == "instar" else RULE_KINDS[self.rule].wta
        return self.rule if self.rule in WTA else None

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
        text, kind = self.rule, KINDS.get(self.wta)
        if self.rule in ("supervised", "delta_rule") or (kind and kind.soft):
            text += f" t={self.t_invert:g}"
        elif kind and kind.anti:
            text += f" delta={self.delta:g} rank={self.rank}"
        rate = f" q={self.lr_power:g}" if self.schedule == "norm" else f" {self.schedule} decay"
        text += f" lr={self.lr:g}{rate} R={self.radius:g}"
        return text + (f" lp={self.lebesgue_p:g}" if self.lebesgue_p != 2 else "")

    def _around(self) -> str:
        parts = [
            "bn" if self.batch_norm else "",
            "unit length" if self.unit_length else "",
            str(self.whiten or ""),
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
            if layer.kind == "conv" and below.channels % layer.groups:
                raise ValueError(
                    f"{where} splits its input into groups={layer.groups}, which must divide "
                    f"the {below.channels} channels of the layer below"
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
