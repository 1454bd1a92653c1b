"""Rules that together reach every branch that a rule has in the kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softhebb_fast.checks import conv2d_size
from softhebb_fast.options import Convolution, Rule
from softhebb_fast.reference import HebbianOutput
from tests.kernels.cases import CASES, WIDE, Case
from tests.tolerances import assert_close, tolerance

MEAN = {"normalise": "mean"}
# fields of a rule; of its tensors "map" is one value a position, "image" one for all of an image
RULES: dict[str, dict[str, Any]] = {
    "softhebb-modulated": {"modulator": "map"},
    "instar": {"gain": "activity", **MEAN},
    "instar-modulated": {"gain": "activity", **MEAN, "modulator": "image"},
    "instar-handicap": {"gain": "activity", **MEAN, "threshold": "neuron"},
    "kmeans": {"gain": "activity", "nearest": True, "normalise": "count", "counts": "neuron"},
    "hebb": {"activity": "linear", "gain": "none"},
    "hebb-decay": {"activity": "linear", "gain": "none", "normalise": "none", "decay": 0.3},
    "oja": {"activity": "linear", **MEAN},
    "oja-modulated": {"activity": "linear", "normalise": "none", "modulator": "map"},
    "sanger": {"activity": "linear", "gain": "lower", **MEAN},
    "sanger-modulated": {"activity": "linear", "gain": "lower", "modulator": "map", "decay": 0.1},
    "bcm": {"activity": "threshold", "gain": "none", **MEAN, "threshold": "neuron", "decay": 0.2},
    "bcm-product": {"activity": "threshold", "threshold": "neuron", "modulator": "image"},
    "teacher": {"activity": "target", **MEAN, "target": "map"},
    "teacher-image": {"activity": "target", "gain": "none", "target": "image"},
    "delta_rule": {"activity": "error", "gain": "none", **MEAN, "target": "map"},
    "delta_rule-activity": {"activity": "error", "gain": "activity", "target": "image"},
    "similarity": {"activity": "target", "gain": "square", **MEAN, "target": "map"},
    "similarity-modulated": {
        **{"activity": "target", "gain": "square", "target": "map", "modulator": "map"}
    },
}
HARD = {"kmeans", "instar", "instar-handicap"}
LAYERS = {
    "odd": Case(),
    "groups": Case(w=(24, 1, 3, 3), options={"groups": 3}),
    "strided": CASES["strided"],
    "channels_last": Case(**WIDE, layout="channels_last"),
    "bias": Case(bias=True),
    "pre_triangle": Case(options={"pre_triangle": True}),
    "lebesgue": Case(options={"lebesgue_p": 3.0, "t_invert": 0.2}),
    "tiles": Case(w=(70, 3, 3, 3)),
}


def named(name: str, case: Case) -> tuple[Case, Rule]:
    """The rule and the case, with the competition that is the rule's."""
    options = case.options | ({"wta": "hard"} if name in HARD else {"wta": "soft_anti"})
    case = case._replace(options=options)
    return case, rule_of(name, case)


def rule_of(name: str, case: Case) -> Rule:
    """The rule with tensors for the case, which are strided as a caller's may be."""
    fields = dict(RULES[name])
    batch, neurons = case.x[0], case.w[0]
    size = (1, 1) if len(case.x) == 2 else _size(case)
    torch.manual_seed(len(name))
    for field in ("modulator", "target"):
        channels = 1 if field == "modulator" else neurons
        if field in fields:
            fields[field] = _signal(fields[field], batch, channels, size)
            if len(case.x) == 2:
                fields[field] = fields[field].flatten(1)
    for field in ("threshold", "counts"):
        if field in fields:
            fields[field] = 0.3 + torch.rand(neurons)
    return Rule(**fields)


def exact(rule: Rule) -> Rule:
    """The rule with its tensors in float64."""
    return rule._replace(
        **{f: t.double() for f, t in rule._asdict().items() if isinstance(t, Tensor)}
    )


def assert_as_defined(got: HebbianOutput, want: HebbianOutput, dtype: torch.dtype) -> None:
    """What a kernel gives in ``dtype``, as the definition has it in float64."""
    loose = tolerance(dtype, "delta_w") * (1 if dtype == torch.float32 else 2)
    assert_close(got.u, want.u, tolerance(dtype, "u"))
    assert_close(got.delta_w, want.delta_w, loose)
    for own, other in ((got.delta_b, want.delta_b), (got.statistic, want.statistic)):
        assert (own is None) == (other is None)
        if other is not None:
            assert_close(own, other, loose)


def _signal(kind: str, batch: int, channels: int, size: tuple[int, int]) -> Tensor:
    if kind == "image":
        return torch.randn(batch, channels, 1, 1).expand(batch, channels, *size)
    return torch.randn(batch, *size, channels).movedim(3, 1)


def _size(case: Case) -> tuple[int, int]:
    convolution = Convolution(**{f: case.conv[f] for f in Convolution._fields})
    x, w = (torch.empty(shape, device="meta") for shape in (case.x, case.w))
    return tuple(conv2d_size(x, w, convolution))
