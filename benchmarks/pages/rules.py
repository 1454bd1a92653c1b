"""The table of steps by other rules, and how many of them keep to what they were to take."""

from __future__ import annotations

from collections.abc import Sequence

from softhebb_fast.bench.rows import Row
from softhebb_fast.bench.table import seconds
from softhebb_fast.kinds import RULES

BATCHES, LAYERS = (10, 100), (1, 2, 3)
PLACES = tuple(f"layer{layer}/b{batch}" for batch in BATCHES for layer in LAYERS)
HEADS = tuple(f"batch {b}: layer {n}" if n == 1 else str(n) for b in BATCHES for n in LAYERS)
BASE = "softhebb"
PAIRWISE = ("sanger", "similarity", "nonnegative_similarity")  # products of neurons by neurons
MOST = {"diagonal": 1.05, "pairwise": 1.4}  # times SoftHebb's step
LEAST = {"fasthebb": 2.5, "naive": 6.0}  # times ours


def table(found: Sequence[Row]) -> str:
    """SoftHebb's medians, the others as multiples of them, and other code as multiples of ours."""
    times = medians(found)
    heads = ["rule", *HEADS, *(f"`{name}` / ours" for name in LEAST)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for rule in RULES:
        cells = []
        for place in PLACES:
            own, base = (times.get((name, place, "cpp")) for name in (rule, BASE))
            shown = "" if own is None else seconds(own) if rule == BASE else f"{own / base:.2f}"
            cells.append(shown)
        for name in LEAST:
            ratios = (ratio(times, rule, place, name) for place in PLACES)
            cells.append(" ".join(_digits(r) for r in ratios if r is not None))
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *counts(times)])


def counts(times: dict[tuple[str, str, str], float]) -> list[str]:
    """A line for everything that was to be reached: in how many cases it is."""
    lines = []
    kinds = {"diagonal": [r for r in RULES if r not in (BASE, *PAIRWISE)], "pairwise": PAIRWISE}
    words = {"diagonal": "Rules with a diagonal gain", "pairwise": "Rules of pairs of neurons"}
    for kind, rules in kinds.items():
        own = [
            times[rule, place, "cpp"] / times[BASE, place, "cpp"]
            for rule in rules
            for place in PLACES
            if (rule, place, "cpp") in times
        ]
        met = sum(one <= MOST[kind] for one in own)
        text = f"at most {MOST[kind]:g} times SoftHebb's step: {met} of {len(own)} cases"
        lines.append(f"- {words[kind]}, {text}.")
    for name, least in LEAST.items():
        own = [r for rule in RULES for p in PLACES if (r := ratio(times, rule, p, name))]
        met = sum(one >= least for one in own)
        lines.append(f"- `{name}`, at least {least:g} times ours: {met} of {len(own)} cases.")
    return lines


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def ratio(
    times: dict[tuple[str, str, str], float], rule: str, place: str, provider: str
) -> float | None:
    """How many times our median goes into that of a provider; None where it was not timed."""
    theirs, ours = times.get((rule, place, provider)), times.get((rule, place, "cpp"))
    return None if theirs is None or ours is None else theirs / ours


def medians(found: Sequence[Row]) -> dict[tuple[str, str, str], float]:
    """Seconds by rule, layer and batch, and provider."""
    split = {row: row.case.split("/", 2) for row in found}
    return {(rule, place, row.provider): row.median for row, (_, rule, place) in split.items()}
