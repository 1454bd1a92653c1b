"""Networks by name: the published SoftHebb and ZerO-SoftHebb ones, and this project's own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from softhebb_fast.naming import did_you_mean

from .grammar import (
    format_layer,
    format_network,
    parse_activation,
    parse_layer,
    parse_network,
    parse_pool,
)
from .own import OWN
from .protocols import PROTOCOLS, Protocol, protocol, published_dataset
from .scale import scaled
from .softhebb import SOFTHEBB
from .types import ACTIVATIONS, Layer, Pool, Preset
from .zero import ZERO

__all__ = [
    "ACTIVATIONS",
    "PRESETS",
    "PROTOCOLS",
    "Layer",
    "Pool",
    "Preset",
    "Protocol",
    "format_layer",
    "format_network",
    "get_preset",
    "parse_activation",
    "parse_layer",
    "parse_network",
    "parse_pool",
    "protocol",
    "published_dataset",
    "scaled",
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
    """
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS) or "; see PRESETS for the names"
        raise ValueError(f"name must be a preset, got {name!r}{hint}")
    return scaled(PRESETS[name], width_factor=width_factor, neuron_factor=neuron_factor)
