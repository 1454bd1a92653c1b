"""How the layers of a published network may start, everything else left as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from softhebb_fast.presets import Preset, format_network, get_preset

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


@dataclass(frozen=True)
class InitSpace:
    """An initialisation and a norm for each Hebbian layer of ``preset``.

    Attributes:
        name, source: its name and where it stands.
        preset: a preset's name.
        init: choices, by name, of the start of a layer.
        radius: range of the norms that filters start at, on a logarithmic scale.
        neuron_factor: scales every layer.
        run: fields of every trial's run.

    Raises ValueError for an impossible range or no choice, naming it.
    """

    name: str
    source: str
    preset: str
    init: Mapping[str, Any]
    radius: tuple[float, float] = (2.0, 50.0)
    neuron_factor: float = 1.0
    run: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(self) -> None:
        check_choices(self, ("radius",))

    def narrowed(self, changes: Mapping[str, str], neuron_factor: float = 1.0) -> InitSpace:
        """The space with fewer starts or another range of norms, written with commas between.

        Raises ValueError for an unknown name or values that do not fit.
        """
        return narrowed(self, ("radius",), changes, neuron_factor)

    def suggest(self, trial: BaseTrial) -> tuple[str, dict[int, Any]]:
        """The network (as layer strings) and the init of each layer that ``trial`` chooses."""
        *layers, head = get_preset(self.preset, neuron_factor=self.neuron_factor).layers
        inits = {}
        for i, layer in enumerate(layers):
            choice = trial.suggest_categorical(f"layer {i + 1} init", list(self.init))
            radius = trial.suggest_float(f"layer {i + 1} radius", *self.radius, log=True)
            inits[i] = self.init[choice]
            layers[i] = replace(layer, radius=float(f"{radius:.4g}"))
        return format_network(Preset("trial", (*layers, head))), inits


def check_choices(space: Any, ranges: tuple[str, ...]) -> None:
    """Raises ValueError for an impossible range of ``space``, or no start to choose."""
    for name in ranges:
        check_range(name, getattr(space, name))
    if not space.init:
        raise ValueError("init must leave something to choose; got nothing")


def narrowed(
    space: Any, ranges: tuple[str, ...], changes: Mapping[str, str], neuron_factor: float
) -> Any:
    """``space`` with fewer starts or other ``ranges``, and its neurons scaled.

    Raises ValueError for an unknown name or values that do not fit.
    """
    new: dict[str, Any] = {"neuron_factor": space.neuron_factor * neuron_factor}
    for name, text in changes.items():
        if name == "init":
            new[name] = some_inits(space.init, text.split(","))
        elif name in ranges:
            new[name] = _two_numbers(name, text)
        else:
            known = ", ".join(("init", *ranges))
            raise ValueError(f"set must name one of {known}; got {name!r}")
    return replace(space, **new)


def check_range(name: str, limits: tuple[float, float]) -> None:
    """Raises ValueError unless the two are positive, finite and in order."""
    low, high = limits
    if not 0 < low <= high < math.inf:
        raise ValueError(f"{name} must be a range of positive numbers, low,high; got {low},{high}")


def some_inits(known: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Those of the starts. Raises ValueError for a name that is not among them."""
    if unknown := set(names) - set(known):
        raise ValueError(f"init must be of {', '.join(known)}; got {sorted(unknown)}")
    return {name: known[name] for name in names}


def _two_numbers(name: str, text: str) -> tuple[float, float]:
    """The range written as "low,high". Raises ValueError, naming it, for another text."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"{name} must be a range low,high; got {text!r}") from None
    return low, high


SHAPIRO = {"signs": "rudin_shapiro"}
DETERMINISTIC = InitSpace(
    "starts",
    "this project: deterministic starts of every layer of the published network",
    "4SoftHebbCnnCIFAR",
    {
        "hadamard_patches": "hadamard_patches",
        "hadamard_patches:signs=rudin_shapiro": {"name": "hadamard_patches"} | SHAPIRO,
        "hadamard_taps": "hadamard_taps",
        "identity_taps": "identity_taps",
        "walsh_binary": "walsh_binary",
        "walsh_binary:signs=rudin_shapiro": {"name": "walsh_binary"} | SHAPIRO,
    },
)
