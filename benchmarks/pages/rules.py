"""The table of steps by other rules, and how many of them keep to what they were to take."""

from __future__ import annotations

from collections.abc import Sequence

from softhebb_fast.bench.rows import Row
from softhebb_fast.bench.table import seconds
from softhebb_fast.kinds import RULES

BATCHES, LAYERS = (10, 100), (1, 2, 3)
PLACES = tuple(f"layer{layer}/b{batch}" for batch in BATCHES for layer in LAYERS)
HEADS = tuple(f"batch {b}: layer {n}" if n == 1 else str(n) for b in BATCHES for n in LAYERS)
BASE, OURS = "softhebb", "cpp"
Key = tuple[str, str, str]
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
            own, found = times.get((rule, place, OURS)), over_base(times, rule, place)
            shown = seconds(own) if rule == BASE and own else f"{found:.2f}" if found else ""
            cells.append(shown)
        for name in LEAST:
            ratios = (over_ours(times, rule, place, name) for place in PLACES)
            cells.append(" ".join(_digits(r) for r in ratios if r is not None))
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *counts(times)])


def counts(times: dict[Key, float]) -> list[str]:
    """A line for everything that was to be reached: in how many cases it is."""
    lines = []
    kinds = {"diagonal": [r for r in RULES if r not in (BASE, *PAIRWISE)], "pairwise": PAIRWISE}
    words = {"diagonal": "Rules with a diagonal gain", "pairwise": "Rules of pairs of neurons"}
    for kind, rules in kinds.items():
        own = [r for rule in rules for p in PLACES if (r := over_base(times, rule, p))]
        met = sum(one <= MOST[kind] for one in own)
        text = f"at most {MOST[kind]:g} times SoftHebb's step: {met} of {len(own)} cases"
        lines.append(f"- {words[kind]}, {text}.")
    for name, least in LEAST.items():
        own = [r for rule in RULES for p in PLACES if (r := over_ours(times, rule, p, name))]
        met = sum(one >= least for one in own)
        lines.append(f"- `{name}`, at least {least:g} times ours: {met} of {len(own)} cases.")
    return lines


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def over_base(times: dict[Key, float], rule: str, place: str) -> float | None:
    """How many times SoftHebb's median goes into that of a rule; None where one was not timed."""
    return _ratio(times, (rule, place, OURS), (BASE, place, OURS))


def over_ours(times: dict[Key, float], rule: str, place: str, provider: str) -> float | None:
    """How many times our median goes into that of a provider; None where one was not timed."""
    return _ratio(times, (rule, place, provider), (rule, place, OURS))


def _ratio(times: dict[Key, float], above: Key, below: Key) -> float | None:
    return times[above] / times[below] if above in times and below in times else None


def medians(found: Sequence[Row]) -> dict[Key, float]:
    """Seconds by rule, layer and batch, and provider."""
    split = {row: row.case.split("/", 2) for row in found}
    return {(rule, place, row.provider): row.median for row, (_, rule, place) in split.items()}
