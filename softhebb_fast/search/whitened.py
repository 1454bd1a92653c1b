"""How layers that see whitened patches learn best: temperatures, rates, norms and ε."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from softhebb_fast.presets import Preset, format_network, get_preset
from softhebb_fast.search.inits import check_choices, narrowed

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

RANGES = ("t_invert", "lr", "radius", "epsilon")


@dataclass(frozen=True)
class WhitenedSpace:
    """How every Hebbian layer of ``preset`` learns; all layers must have a whitening.

    Attributes:
        name, source: its name and where it stands.
        preset: a preset's name.
        init: choices, by name, of the start of all layers.
        t_invert, lr, radius: ranges of the inverse temperature, the base rate and the norms that
            filters start at, on a logarithmic scale.
        epsilon: the same of the factor on the preset's own ε of the whitening.
        neuron_factor: scales every layer.
        features: what the classifier in closed form, which judges a trial, is shown.

    Raises ValueError for an impossible range or no choice, naming it.
    """

    name: str
    source: str
    preset: str
    init: Mapping[str, Any]
    t_invert: tuple[float, float] = (1.0, 40.0)
    lr: tuple[float, float] = (0.02, 0.3)
    radius: tuple[float, float] = (1.5, 10.0)
    epsilon: tuple[float, float] = (0.1, 10.0)
    neuron_factor: float = 1.0
    features: Mapping[str, Any] = field(default_factory=lambda: {"grid": 3})

    def __post_init__(self) -> None:
        check_choices(self, RANGES)

    @property
    def run(self) -> dict[str, Any]:
        """Fields of every trial's run."""
        return {"classifier": "ridge", "features": dict(self.features)}

    def narrowed(self, changes: Mapping[str, str], neuron_factor: float = 1.0) -> WhitenedSpace:
        """The space with fewer starts or other ranges, written with commas between.

        Raises ValueError for an unknown name or values that do not fit.
        """
        return narrowed(self, RANGES, changes, neuron_factor)

    def suggest(self, trial: BaseTrial) -> tuple[str, Any]:
        """The network (as layer strings) and the init that ``trial`` chooses."""
        *layers, head = get_preset(self.preset, neuron_factor=self.neuron_factor).layers
        init = self.init[trial.suggest_categorical("init", list(self.init))]
        for i, layer in enumerate(layers):
            chosen = {
                name: trial.suggest_float(f"layer {i + 1} {name}", *getattr(self, name), log=True)
                for name in RANGES
            }
            epsilon = layer.whiten.epsilon * chosen.pop("epsilon")
            whiten = replace(layer.whiten, epsilon=_short(epsilon))
            chosen = {name: _short(value) for name, value in chosen.items()}
            layers[i] = replace(layer, whiten=whiten, **chosen)
        return format_network(Preset("trial", (*layers, head))), init


def _short(value: float) -> float:
    return float(f"{value:.3g}")


STARTS = {name: name for name in ("patches", "normal")}
WHITENED = WhitenedSpace(
    "whitened",
    "this project: how layers of whitened patches learn",
    "3WhitenedSoftHebbCnnCIFAR",
    STARTS,
)
WHITENED_LAYER = WhitenedSpace(
    "whitened_layer",
    "this project: how one layer of whitened patches learns",
    "2WhitenedSoftHebbCnnCIFAR",
    STARTS,
    features={"grid": 3, "window": 0.5, "power": 0.7, "mirrored": True},
)
