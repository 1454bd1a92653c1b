"""What each rule needs beside x and W, drawn at random, and how a call takes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softhebb_fast.kinds import RULES

OWN = {
    "softhebb": {"wta": "soft_anti", "t_invert": 1.5},
    "krotov": {},
    "instar": {"wta": "soft", "t_invert": 1.5},
    "delta_rule": {"t_invert": 1.5},
}


def needs(rule: str, size: tuple[int, ...], groups: int, draw: torch.Generator) -> dict[str, Any]:
    """The tensors of a rule for u of ``size`` (B, K, ...), float64."""
    neurons = size[1]

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    if rule == "bcm":
        return {"threshold": random(neurons)}
    if rule == "kmeans":
        return {"counts": random(neurons).abs() * 5}
    if rule in ("teacher", "delta_rule"):
        return {"target": random(*size)}
    if rule.endswith("similarity"):
        m = random(neurons, neurons // groups) / neurons
        own = torch.arange(neurons) % (neurons // groups)
        return {"lateral": m.scatter(1, own[:, None], 0.0)}
    return {}


def of_oracle(rule: str, options: dict[str, Any]) -> dict[str, Any]:
    """The same options as the oracle takes them, with the rule's own made explicit."""
    kind = RULES[rule]
    found = {**kind.competition, "wta": kind.wta or "soft_anti", "normalise": kind.normalise}
    found |= options
    found["t"] = found.pop("t_invert", 12.0)
    found["p"] = found.pop("lebesgue_p", 2.0)
    for name in ("modulator", "target"):
        if found.get(name) is not None and found[name].dim() == 4:
            found[name] = found[name].movedim(1, -1)
    if found.get("modulator") is not None and found["modulator"].dim() == 4:
        found["modulator"] = found["modulator"][..., 0]
    return found
