"""The names of competitions and of other choices; the standard library is enough to read them."""

from __future__ import annotations

from typing import NamedTuple

PADDING_MODES = ("reflect", "zeros", "replicate", "circular")
TIE_RULES = ("first", "spread")
POOLS = ("max", "avg")
ROUNDINGS = ("nearest", "stochastic")


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
