"""Networks by name: the published SoftHebb and ZerO-SoftHebb ones, and this project's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from softhebb_fast.naming import did_you_mean

from .grammar import (
    format_layer,
    format_network,
    parse_activation,
    parse_layer,
    parse_network,
    parse_pool,
    parse_whitening,
)
from .own import OWN
from .protocols import PROTOCOLS, Protocol, protocol, published_dataset
from .rules import RULE_NAMES, with_rule
from .scale import scaled
from .softhebb import SOFTHEBB
from .types import ACTIVATIONS, TAUGHT, Layer, Pool, Preset
from .whitening import Whitening
from .zero import ZERO

__all__ = [
    "ACTIVATIONS",
    "PRESETS",
    "PROTOCOLS",
    "RULE_NAMES",
    "TAUGHT",
    "Layer",
    "Pool",
    "Preset",
    "Protocol",
    "Whitening",
    "as_preset",
    "format_layer",
    "format_network",
    "get_preset",
    "is_name",
    "parse_activation",
    "parse_layer",
    "parse_network",
    "parse_pool",
    "parse_whitening",
    "protocol",
    "published_dataset",
    "scaled",
    "with_rule",
]

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {preset.name: preset for preset in (*SOFTHEBB, *ZERO, *OWN)}
)


def get_preset(
    name: str, *, width_factor: float | None = None, neuron_factor: float = 1.0
) -> Preset:
    """The preset of that name, as it is or with its layers scaled (see `scaled`).

    Raises:
        ValueError: for an unknown name, with the names most like it; for factors that do not fit.

    ``width_factor`` and ``neuron_factor`` as there.
    """
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS) or "; see PRESETS for the names"
        raise ValueError(f"name must be a preset, got {name!r}{hint}")
    return scaled(PRESETS[name], width_factor=width_factor, neuron_factor=neuron_factor)


def as_preset(preset: Preset | str | Sequence[str]) -> Preset:
    """A preset, the name of one, or layer strings as `parse_network` takes them, as a preset.

    Raises:
        TypeError: for anything else.
        ValueError: as `get_preset` and `parse_network`.
    """
    if isinstance(preset, Preset):
        return preset
    if isinstance(preset, str):
        return get_preset(preset) if is_name(preset) else parse_network(preset)
    if isinstance(preset, list | tuple) and all(isinstance(layer, str) for layer in preset):
        return parse_network(preset)
    raise TypeError(f"preset must be a Preset, a preset's name or layer strings; got {preset!r}")


def is_name(text: str) -> bool:
    """Whether ``text`` stands for a preset, known or mistyped, and not for layer strings."""
    return text in PRESETS or "-" not in text
