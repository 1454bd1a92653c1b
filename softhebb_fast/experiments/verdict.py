"""Whether runs came out as published: one rule for every table and page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from softhebb_fast import experiments
from softhebb_fast.experiments.cell import Cell
from softhebb_fast.experiments.results import Result, numbers

MARGIN = 0.5  # points
YES, BETTER, NO = "yes", "better", "no"
RULE = f"""\
The tolerance is {MARGIN:g} points, or two standard errors if they are more. Those are of the
difference: of our mean over the seeds, and of the published mean where its deviation is known.
**yes**: the published accuracy is no further from our mean than that. **better**: ours is above it
by more. **no**: ours is below it by more. One seed has no standard error, so the margin alone
decides. A network with several published accuracies is held against their range. What stands in
brackets is the range, or an accuracy published elsewhere for this very configuration. Nothing is
said where there is none."""


def judge(
    accuracies: Sequence[float], published: Sequence[float], published_error: float = 0.0
) -> str:
    """`RULE` for the test accuracies of our seeds, in per cent: "yes", "better" or "no".

    ``published`` are all accuracies of that configuration, ``published_error`` the standard error
    of the published mean, 0 if it is not known. "" where either is empty. A run that diverged
    makes "no".
    """
    if not accuracies or not published:
        return ""
    if not all(map(math.isfinite, accuracies)):
        return NO
    mean, own = statistics.fmean(accuracies), 0.0
    if len(accuracies) > 1:
        own = statistics.stdev(accuracies) / math.sqrt(len(accuracies))
    tolerance = max(MARGIN, 2 * math.hypot(own, published_error))
    # Hundredths are what tables show; a difference of 0.5 must not hang on the last bit.
    if round(mean - max(published) - tolerance, 6) > 0:
        return BETTER
    return NO if round(min(published) - mean - tolerance, 6) > 0 else YES


def outcome(cell: Cell, rows: list[Result]) -> str:
    """What `judge` says of the finished ``rows`` of a cell; of one with a target of this project,
    "yes" or "no" by our mean. "" where there is nothing to compare."""
    accuracies = numbers(rows, "test_accuracy")
    if cell.target is not None and accuracies:
        return YES if statistics.fmean(accuracies) >= cell.target else NO
    return judge(accuracies, figures_of(cell), cell.published_error)


def verdict(cell: Cell, rows: list[Result]) -> str:
    """`outcome` as it stands in a table, with what it is held against if that is not the published
    figure beside it: a target, or the figures of other tables."""
    found = outcome(cell, rows)
    if not found:
        return ""
    told = f"**{found}**" if found == NO else found
    if cell.target is not None:
        return f"{told} (≥ {cell.target:g})"
    figures = figures_of(cell)
    if figures == [cell.published.get("test_accuracy")]:
        return told
    return f"{told} ({' to '.join(f'{f:g}' for f in dict.fromkeys((figures[0], figures[-1])))})"


def figures_of(cell: Cell) -> list[float]:
    """All accuracies that were published for the run of ``cell``, in whatever experiment."""
    every = (c for e in experiments.EXPERIMENTS.values() for c in e.cells if c.name == cell.name)
    own = (c.published.get("test_accuracy") for c in (cell, *every) if c.comparable)
    return sorted({accuracy for accuracy in own if accuracy is not None})
