"""Wider and narrower versions of a preset, by the two factors of Journé et al. 2023."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from softhebb_fast.scalars import number

from .types import Layer, Origin, Preset

NEURON_NAMES = {0.25: "quarterNeurons", 0.5: "halfNeurons", 2.0: "doubleNeurons"}


def scaled(
    preset: Preset, *, width_factor: float | None = None, neuron_factor: float = 1.0
) -> Preset:
    """The preset with other numbers of outputs in every layer but the last.

    With C outputs in its first layer, a `width_factor` w gives layer i (from 0) C * w^i outputs;
    None keeps the outputs as they are (the published base networks have w = 4). The
    `neuron_factor` then multiplies them all. Results are rounded, half to even. The name gains the
    published suffix (_wf2, _halfNeurons), or one like it; a preset that stays the same is
    returned as it is.

    Raises:
        ValueError: for a factor that is not positive, or one that leaves a layer without outputs
            or with a number of outputs that its groups, or the next layer's, do not divide.
    """
    neuron_factor = number("neuron_factor", neuron_factor)
    width_factor = None if width_factor is None else number("width_factor", width_factor)
    factors = f"{width_factor=}, {neuron_factor=}"
    if not 0 < neuron_factor < float("inf"):
        raise ValueError(f"neuron_factor must be a positive number, got {factors}")
    if width_factor is not None and not 0 < width_factor < float("inf"):
        raise ValueError(f"width_factor must be a positive number or None, got {factors}")
    *hidden, head = preset.layers
    outs = [layer.out for layer in hidden]
    if width_factor is not None:
        outs = [outs[0] * width_factor**depth for depth in range(len(outs))]
    suffix = "" if width_factor is None else f"_wf{width_factor:g}"
    if neuron_factor != 1:
        suffix += "_" + NEURON_NAMES.get(neuron_factor, f"{neuron_factor:g}xNeurons")
    try:
        layers = (
            *(
                replace(layer, out=round(out * neuron_factor))
                for layer, out in zip(hidden, outs, strict=True)
            ),
            head,
        )
        wider = replace(preset, name=preset.name + suffix, layers=layers)
    except ValueError as error:
        raise ValueError(f"{preset.name} cannot be scaled by {factors}: {error}") from None
    return preset if layers == preset.layers else wider


def with_variants(
    nets: Mapping[str, tuple[Layer, ...]],
    variants: Mapping[str, tuple[Mapping[str, float], ...]],
    source: Origin,
) -> Iterator[Preset]:
    """Each net as a preset, followed by its scaled variants."""
    for name, layers in nets.items():
        preset = Preset(name, layers, source)
        yield preset
        for factors in variants.get(name, ()):
            yield scaled(preset, **factors)
