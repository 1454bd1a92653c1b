"""The same network by another rule."""

from __future__ import annotations

from dataclasses import replace

from .types import BY_KIND, OTHERS, WTA, Preset

SOFTHEBB = "soft_anti"
RULE_NAMES = ("softhebb", *WTA, *OTHERS)
OWN_FIELDS = ("lr", "lr_power", "radius", "delta", "rank")  # of a rule, whatever the layer is


def with_rule(preset: Preset, rule: str) -> Preset:
    """The preset with ``rule`` in every Hebbian layer but the last, which learns labels.

    Shapes, temperatures and what surrounds the layers stay. Rates, their power, the norm at the
    start, delta and rank become the rule's. The name gains the rule's (``_oja``); a preset
    whose layers have the rule already is returned as it is.

    Raises:
        ValueError: for an unknown rule, one that does not fit a layer, or a preset without Hebbian
            layers below the last.

    ``rule`` is a name of ``kinds.RULES``, ``"softhebb"`` being ``"soft_anti"``, or a competition.
    """
    if rule not in RULE_NAMES:
        raise ValueError(f"rule must be one of {', '.join(RULE_NAMES)}; got {rule!r}")
    *body, last = preset.layers
    if not any(layer.hebbian for layer in body):
        raise ValueError(f"rule must be None for {preset.name}, which has no Hebbian layer")
    asked = SOFTHEBB if rule == "softhebb" else rule
    own = dict.fromkeys(OWN_FIELDS, BY_KIND)
    layers = []
    for number, layer in enumerate(body):
        if layer.hebbian and layer.rule != asked:
            try:
                layer = replace(layer, rule=asked, **own)
            except ValueError as error:
                where = f"layer {number} of {preset.name}"
                raise ValueError(f"rule {rule!r} does not fit {where}: {error}") from None
        layers.append(layer)
    layers = (*layers, last)
    if layers == preset.layers:
        return preset
    return replace(preset, name=f"{preset.name}_{rule}", layers=layers)
