"""Published and ours, side by side, as Markdown."""

from __future__ import annotations

import statistics

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.results import Result, diverged, mean_and_deviation, numbers, of_cell
from softhebb_fast.experiments.verdict import verdict

NOT_RUN = "not run"


def table(experiment: Experiment, rows: list[Result]) -> str:
    """A table of all cells: published | ours (mean ± deviation), seeds, protocol, minutes.

    Only runs on all images count.
    """
    published = {column for cell in experiment.cells for column in cell.published}
    heads = [""]
    for column, head in experiment.columns.items():
        heads.append(f"{head}, published | ours" if column in published else head)
    heads += ["seeds", *filter(None, [experiment.verdict]), "protocol", "backend", "minutes"]
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|" + "---|" * (lines[0].count("|") - 1))
    lines += [_line(experiment, cell, rows, published) for cell in experiment.cells]
    return "\n".join(lines)


def overview(experiment: Experiment, rows: list[Result]) -> str:
    """The cells with what was published, which seeds are done, and how long they took."""
    lines = [f"{experiment.name}: {experiment.title} ({experiment.source})"]
    width = max(len(cell.name) for cell in experiment.cells)
    for cell in experiment.cells:
        done = of_cell(rows, cell.name)
        seeds = ", ".join(row["seed"] for row in done)
        state = f"seeds {seeds} in {_minutes(done)} minutes each" if done else _why_not(cell, rows)
        published = cell.published.get("test_accuracy", "")
        lines.append(f"  {cell.name:{width}} {published!s:>7}  {cell.label}: {state}")
    return "\n".join(lines)


def ours(rows: list[Result], column: str) -> str:
    """What our runs gave: mean ± deviation of numbers, or the distinct texts."""
    try:
        values = numbers(rows, column)
    except ValueError:
        return "; ".join(dict.fromkeys(row[column] for row in rows))
    if not values:
        return ""
    mean, deviation = mean_and_deviation(values)
    small = abs(mean) < 1
    text = f"{mean:.3g}" if small else f"{mean:.2f}"
    spread = f"{deviation:.1g}" if small else f"{deviation:.2f}"
    return f"{text} ± {spread}" if len(values) > 1 else text


def _line(experiment: Experiment, cell: Cell, rows: list[Result], published: set[str]) -> str:
    done = of_cell(rows, cell.name)
    parts = [cell.label]
    for i, column in enumerate(experiment.columns):
        if column in published:
            parts.append(str(cell.published.get(column, "")))
        parts.append(ours(done, column) if done else "" if i else _why_not(cell, rows))
    parts += [
        str(len(done)),
        *([verdict(cell, done)] if experiment.verdict else []),
        _distinct(done, "protocol"),
        _backends(done),
        _minutes(done),
    ]
    return "| " + " | ".join(parts) + " |"


def _why_not(cell: Cell, rows: list[Result]) -> str:
    if note := diverged(rows, cell.name):
        return note
    notes = [row["note"] for row in rows if row["cell"] == cell.name and row["note"]]
    notes += [f"needs a GPU, {cell.gpu}"] if cell.gpu else []
    return f"{NOT_RUN}: {notes[0]}" if notes else NOT_RUN


def _distinct(rows: list[Result], column: str) -> str:
    return "; ".join(dict.fromkeys(row[column] for row in rows))


def _backends(rows: list[Result]) -> str:
    def one(row: Result) -> str:
        count = row["threads"]
        threads = f", {count} thread{'s' * (count != '1')}" if count else ""
        return f"{row['backend']} {row['precision']}{threads}"

    return "; ".join(dict.fromkeys(map(one, rows)))


def _minutes(rows: list[Result]) -> str:
    """The median: a machine that was busy with other things spoils a mean."""
    values = numbers(rows, "minutes")
    return f"{statistics.median(values):.1f}" if values else ""
