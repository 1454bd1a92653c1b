"""The page of all results, written from their CSVs alone."""

from __future__ import annotations

import math
import os
import statistics
from pathlib import Path

from softhebb_fast.experiments import EXPERIMENTS, results
from softhebb_fast.experiments.cell import Experiment
from softhebb_fast.experiments.claims import Evidence, claims_table
from softhebb_fast.experiments.figures import PARTS
from softhebb_fast.experiments.results import Result, diverged, numbers, of_cell
from softhebb_fast.experiments.table import table
from softhebb_fast.experiments.verdict import BETTER, NO, RULE, YES, outcome
from softhebb_fast.files import write_text

PAGE = Path("docs") / "results.md"
HEAD = f"""\
# Results

Published figures, and what this project gets. Written by `softhebb-fast reproduce --page` from the
CSVs in [results](../results); `softhebb-fast reproduce NAME` makes the runs of a table again.

Accuracies are per cent on the whole test set after the last epoch: the mean over the seeds ± the
standard deviation (of the population, as published). A protocol is Hebbian epochs x batch,
classifier epochs x batch.

## Reproduced

{RULE}

Collapsed networks vary more than others, so a "no" of one seed is weak evidence there. The same
published ZerO network on MNIST is given as 71.4, 70 and 71.6 %, and as 72 and 72.8 in charts.

Where this project has a target of its own, the column says so and names it. Claims are held against
the range in their column "wanted".

Minutes are the median of a run on a machine that did other things as well. They say
roughly what a run costs and are no measurement.

## All tables
"""
SPREAD = """\
The margin is about what parts two single runs of one network. Over the {cells} cells below with
several seeds, the median deviation of a run is {deviation:.2f} points, {gap:.1f} for the difference
of two.
"""
TRAPS = """\
## Traps

What makes published numbers hard to meet, and what is done here:

- **Double normalisation.** The report's Algorithm 2 multiplies the Hadamard matrix by 2^(-(m-1)/2).
  The published ZerO-SoftHebb code divides it by 2^(m/2) too, so filters are 11, 23 and 45 times
  smaller. Tables and figures of ZerO are made at that scale, `zerO:scale=fork`.
- **Duplicate filters.** More filters K than channels C leave min(K, 2^ceil(log2 C)) distinct ones.
  Equal filters compute equal sums and part only where the first of them wins a tie. Results depend
  on exact ties, which the kernels here keep.
- **Max or average pooling.** The report's Table 3 pools by maximum, the released preset of the same
  network by average. The first layer of `2SoftHebbCnnCIFAR` and `3SoftHebbCnnCIFAR` pools by
  average, that of `4SoftHebbCnnCIFAR` by maximum.
- **A preset that changed its name's meaning.** `2SoftHebbCnnCIFAR` is another network in the
  ZerO-SoftHebb code; here the name keeps that of Journé et al. 2023.
- **Losses over the batch size.** Published losses are sums of batch means over the number of
  images. Training figures average the epochs since the last line of the log, with dropout on.
- **Single seeds.** Whether the ZerO numbers are one seed or a mean is not published.
"""


def page(folder: Path = results.FOLDER, place: Path = PAGE) -> str:
    """The page as Markdown, for a file at ``place``.

    It comes from ``folder``: the CSVs, figures, and ``NAME.md``, what there is to say about the
    results of an experiment.
    """
    rows = {name: results.read(results.path(name, folder)) for name in EXPERIMENTS}
    evidence = {name: Evidence.read(name, folder) for name in EXPERIMENTS}
    parts = [HEAD, _summary(rows, evidence), *_spread(rows)]
    for experiment in EXPERIMENTS.values():
        figures = [folder / f"{experiment.name}{part}.png" for part in PARTS]
        links = [Path(os.path.relpath(f, place.parent)).as_posix() for f in figures if f.exists()]
        notes = folder / f"{experiment.name}.md"
        held = claims_table(experiment.claims, evidence[experiment.name])
        found = [held] if experiment.claims else []
        found += [notes.read_text(encoding="utf-8").strip()] if notes.exists() else []
        parts.append(_section(experiment, rows[experiment.name], links, found))
    return "\n".join([*parts, TRAPS])


def write_page(place: Path = PAGE, folder: Path = results.FOLDER) -> None:
    """Write the page to ``place``, atomically. Raises OSError if that cannot be."""
    write_text(place, page(folder, place))


def _summary(rows: dict[str, list[Result]], evidence: dict[str, Evidence]) -> str:
    lines = [
        "| | cells | with runs | yes | better | no | claims met | claims not met | not run yet |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, experiment in EXPERIMENTS.items():
        found = [(cell, of_cell(rows[name], cell.name)) for cell in experiment.cells]
        outcomes = [outcome(cell, own) for cell, own in found] if experiment.verdict else []
        claims = [claim.verdict(evidence[name]) for claim in experiment.claims]
        counts = (
            len(found),
            sum(bool(own) for _, own in found),
            *(outcomes.count(each) for each in (YES, BETTER, NO)),
            claims.count("yes"),
            sum("no" in claim for claim in claims),
            sum(not own and not diverged(rows[name], cell.name) for cell, own in found),
        )
        lines.append(f"| [{name}](#{_anchor(experiment)}) | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines) + "\n"


def _spread(rows: dict[str, list[Result]]) -> list[str]:
    """How far seeds of one cell lie apart, if there are cells with several."""
    cells = {cell.name: name for name, e in EXPERIMENTS.items() for cell in e.cells}
    found = (numbers(of_cell(rows[e], cell), "test_accuracy") for cell, e in cells.items())
    deviations = [statistics.stdev(values) for values in found if len(values) > 1]
    if not deviations:
        return []
    middle = statistics.median(deviations)
    return [SPREAD.format(cells=len(deviations), deviation=middle, gap=math.sqrt(2) * middle)]


def _section(
    experiment: Experiment, rows: list[Result], figures: list[str], found: list[str]
) -> str:
    lines = [f"## {_heading(experiment)}", "", f"Source: {experiment.source}.", "", experiment.text]
    lines += ["", table(experiment, rows), ""]
    for figure in figures:
        lines += [f"![{experiment.title}]({figure})", ""]
    for text in found:
        lines += [text, ""]
    missing = [
        cell
        for cell in experiment.cells
        if not of_cell(rows, cell.name) and not diverged(rows, cell.name)
    ]
    for why, own in (
        ("yet", [cell for cell in missing if not cell.gpu]),
        ("where there is no GPU", [cell for cell in missing if cell.gpu]),
    ):
        if own:
            names = ", ".join(dict.fromkeys(f"`{cell.name}`" for cell in own))
            command = f"softhebb-fast reproduce {experiment.name} --cells NAME"
            lines += [f"Not run {why}: {names}. `{command}` makes such a run.", ""]
    return "\n".join(lines)


def _heading(experiment: Experiment) -> str:
    return f"{experiment.name}: {experiment.title}"


def _anchor(experiment: Experiment) -> str:
    """The heading as GitHub links to it."""
    kept = "".join(c for c in _heading(experiment).lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")
