"""What a search may choose: the published spaces, and an open one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from softhebb_fast.naming import did_you_mean
from softhebb_fast.presets import Layer, Pool, Preset, format_network
from softhebb_fast.presets.blocks import head
from softhebb_fast.search.inits import DETERMINISTIC, InitSpace, check_range, some_inits
from softhebb_fast.search.whitened import WHITENED, WHITENED_LAYER, WhitenedSpace

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

FORK = {"name": "zerO", "scale": "fork"}
RANGES = ("lr", "t_invert", "power", "radius")
POOL_PADDING = {2: 0, 4: 1}  # as in the published networks; elsewhere half the window
CHOICES = ("lr_power", "kernel", "pool", "pool_size", "activation", "rule", "init")


@dataclass(frozen=True)
class Space:
    """What may become of each layer; ranges are searched on a logarithmic scale.

    Attributes:
        name, source: its name and where it stands.
        outs: neurons of each Hebbian layer.
        paddings: padding of each layer; None takes half the kernel.
        lr, t_invert, power: ranges of the rate, the inverse temperature and the activation's power.
        radius: range of the norms that filters start at; the published 25 if both ends are.
        lr_power, kernel, pool, pool_size, activation, rule: choices.
        init: choices, by name, of the start of all layers.
        run: fields of every trial's run.

    Raises ValueError for an empty or impossible range or choice, naming it.
    """

    name: str
    source: str
    outs: tuple[int, ...]
    paddings: tuple[int, ...] | None = None
    lr: tuple[float, float] = (0.001, 0.1)
    t_invert: tuple[float, float] = (0.1, 10.0)
    power: tuple[float, float] = (0.1, 10.0)
    radius: tuple[float, float] = (25.0, 25.0)
    lr_power: tuple[float, ...] = (0.3, 0.4, 0.5)
    kernel: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    pool: tuple[str, ...] = ("avg", "max")
    pool_size: tuple[int, ...] = (2, 3, 4)
    activation: tuple[str, ...] = ("softmax", "repu", "triangle")
    rule: tuple[str, ...] = ("soft_anti",)
    init: Mapping[str, Any] = field(default_factory=lambda: {"zerO:scale=fork": FORK})
    run: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(self) -> None:
        for name in RANGES:
            check_range(name, getattr(self, name))
        for name in CHOICES:
            if not getattr(self, name):
                raise ValueError(f"{name} must leave something to choose; got nothing")
        if self.paddings is not None and len(self.paddings) != len(self.outs):
            raise ValueError(
                f"paddings must have one entry a layer, {len(self.outs)}; got {self.paddings}"
            )
        usual = {name: getattr(self, name)[0] for name in (*RANGES, *CHOICES[:-1])}
        for name in CHOICES[:-1]:
            for value in getattr(self, name):
                self._layer(0, **{**usual, name: value})

    def narrowed(self, changes: Mapping[str, str], neuron_factor: float = 1.0) -> Space:
        """The space with other ranges and choices, each written as values with commas between.

        Raises ValueError for an unknown name or values that do not fit.
        """
        kinds = {f.name: f.type for f in fields(self)}
        names = (*RANGES, *CHOICES, "outs", "paddings")
        new: dict[str, Any] = {}
        for name, text in changes.items():
            if name not in names:
                raise ValueError(f"set must name one of {', '.join(names)}; got {name!r}")
            if name == "init":
                new[name] = some_inits(self.init, text.split(","))
                continue
            kind = next(k for k in (float, int, str) if k.__name__ in kinds[name])
            try:
                new[name] = tuple(kind(value) for value in text.split(","))
            except ValueError:
                raise ValueError(
                    f"{name} must be values like {kinds[name]}; got {text!r}"
                ) from None
            if name in RANGES and len(new[name]) != 2:
                raise ValueError(f"{name} must be a range low,high; got {text!r}")
        if neuron_factor != 1:
            new["outs"] = tuple(round(n * neuron_factor) for n in new.get("outs", self.outs))
        return replace(self, **new)

    def suggest(self, trial: BaseTrial) -> tuple[str, Any]:
        """The network (as layer strings) and the init that ``trial`` chooses."""
        init = self.init[trial.suggest_categorical("init", list(self.init))]
        layers, inits = [], {}
        for i in range(len(self.outs)):
            prefix = f"layer {i + 1} "
            chosen = {n: self._choose(trial, prefix, n) for n in CHOICES[:-1]}
            chosen |= {n: self._range(trial, prefix, n) for n in RANGES}
            layers.append(self._layer(i, **chosen))
            inits[i] = _with_radius(init, chosen["radius"])
        same = all(one == inits[0] for one in inits.values())
        network = format_network(Preset("trial", (*layers, head())))
        return network, inits[0] if same else inits

    def _choose(self, trial: BaseTrial, prefix: str, name: str) -> Any:
        return trial.suggest_categorical(prefix + name, list(getattr(self, name)))

    def _range(self, trial: BaseTrial, prefix: str, name: str) -> float:
        value = trial.suggest_float(prefix + name, *getattr(self, name), log=True)
        return float(f"{value:.4g}")

    def _layer(self, i: int, **chosen: Any) -> Layer:
        kernel, size = chosen["kernel"], chosen["pool_size"]
        return Layer(
            "conv",
            chosen["rule"],
            self.outs[i],
            kernel,
            kernel // 2 if self.paddings is None else self.paddings[i],
            activation=(chosen["activation"], chosen["power"]),
            pool=Pool(chosen["pool"], size, 2, POOL_PADDING.get(size, size // 2)),
            **{name: chosen[name] for name in ("lr", "t_invert", "lr_power", "radius")},
        )


def _with_radius(init: Any, radius: float) -> Any:
    """ZerO keeps norms of its own unless told; all others take the layer's."""
    return {"name": "zerO", "radius": radius} if init == "zerO" else init


AnySpace = Space | InitSpace | WhitenedSpace

SPACES: Mapping[str, AnySpace] = {
    space.name: space
    for space in (
        Space("table3", "Le, Xu, Zhuang, Table 3: one layer of 128 neurons", (128,), (2,)),
        Space(
            "table4",
            "Le, Xu, Zhuang, Table 4: three layers of 96, 384 and 1536 neurons",
            (96, 384, 1536),
            (2, 1, 1),
        ),
        Space(
            "open",
            "this project: the start, its norms and the competition too",
            (96, 384, 1536),
            radius=(0.5, 50.0),
            kernel=(3, 5),
            rule=("soft_anti", "soft", "hard"),
            init={
                name: name
                for name in (
                    "hadamard_patches",
                    "hadamard_taps",
                    "identity_taps",
                    "walsh_binary",
                    "zerO",
                    "normal",
                )
            },
        ),
        DETERMINISTIC,
        WHITENED,
        WHITENED_LAYER,
    )
}


def get_space(name: str) -> AnySpace:
    """The space of that name. Raises ValueError for another, with the names there are."""
    if name not in SPACES:
        hint = did_you_mean(name, SPACES)
        raise ValueError(f"space must be one of {', '.join(SPACES)}; got {name!r}{hint}")
    return SPACES[name]


def run_options(run: Mapping[str, Any]) -> str:
    """Fields of a trial's run, plain or by name, as ``train`` takes them: "", or all with a space
    before."""
    texts = []
    for name, value in run.items():
        given = value.items() if isinstance(value, Mapping) else ()
        settings = " ".join(f"{key}={str(one).lower()}" for key, one in given)
        texts.append(f" --{name.replace('_', '-')} {settings or value}")
    return "".join(texts)


def init_option(init: Any) -> str:
    """An init as ``train --init`` takes it."""
    if isinstance(init, str):
        return init
    if "name" not in init:
        return ";".join(f"{int(layer) + 1}={init_option(one)}" for layer, one in init.items())
    settings = ",".join(f"{key}={value}" for key, value in init.items() if key != "name")
    return f"{init['name']}:{settings}" if settings else init["name"]
