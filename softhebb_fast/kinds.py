"""The names of competitions, rules and other choices.

The standard library is enough to read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

PADDING_MODES = ("reflect", "zeros", "replicate", "circular")
TIE_RULES = ("first", "spread")
POOLS = ("max", "avg")
ROUNDINGS = ("nearest", "stochastic")
UPDATES = ("grad", "in_place")


class Kind(NamedTuple):
    """A competition in flags, which are all that the algebra asks of its name.

    Attributes:
        soft: y is a softmax; else the winner alone has a y.
        anti: some neurons unlearn: all losers of a soft one, the neuron of one rank of a hard one.
    """

    soft: bool
    anti: bool


KINDS = {
    "soft_anti": Kind(soft=True, anti=True),
    "soft": Kind(soft=True, anti=False),
    "hard": Kind(soft=False, anti=False),
    "hard_anti": Kind(soft=False, anti=True),
}
WTA = tuple(KINDS)

ACTIVITIES = (
    *("competition", "linear", "threshold", "target", "error"),
    *("lateral", "rectified_lateral"),
)
GAINS = ("none", "product", "activity", "square", "lower")
NORMALISATIONS = ("max", "mean", "none", "count")


class RuleKind(NamedTuple):
    """A rule of plasticity: what its neurons' activity is, what it takes back, and its defaults.

    Attributes:
        activity: one of ``ACTIVITIES``, which multiplies the patches.
        gain: one of ``GAINS``, which multiplies the weights; see ``options.Rule``.
        nearest: the competition is for the smallest distance of the weights from the patch.
        normalise: one of ``NORMALISATIONS``, if nothing else is asked for.
        lr_power: of the rate by norm, if nothing else is asked for; 0 is a constant rate.
        competition: options of the competition that are the rule's own, if not given.
        wta: the competition that makes the rule, if only one does.
    """

    activity: str
    gain: str
    nearest: bool = False
    normalise: str = "mean"
    lr_power: float = 0.0
    competition: Mapping[str, Any] = MappingProxyType({})
    wta: str | None = None


RULES = {
    "softhebb": RuleKind("competition", "product", normalise="max", lr_power=0.5),
    "krotov": RuleKind(
        "competition",
        "product",
        normalise="max",
        competition=MappingProxyType({"delta": 0.4, "rank": 2}),
        wta="hard_anti",
    ),
    "instar": RuleKind("competition", "activity"),
    "kmeans": RuleKind("competition", "activity", nearest=True, normalise="count", wta="hard"),
    "hebb": RuleKind("linear", "none", normalise="max"),
    "oja": RuleKind("linear", "product"),
    "sanger": RuleKind("linear", "lower"),
    "bcm": RuleKind("threshold", "none"),
    "teacher": RuleKind("target", "product"),
    "delta_rule": RuleKind("error", "none"),
    "similarity": RuleKind("lateral", "square"),
    "nonnegative_similarity": RuleKind("rectified_lateral", "square"),
}
