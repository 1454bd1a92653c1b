"""One rule says what came out as published, and it says the same of a run in every table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import pytest

from softhebb_fast.experiments import EXPERIMENTS, Cell, results, verdict
from softhebb_fast.experiments.page import HEAD
from softhebb_fast.experiments.verdict import figures_of, judge

FOLDER = Path(__file__).resolve().parents[2] / results.FOLDER


@pytest.mark.parametrize(
    ("accuracies", "published", "error", "found"),
    [
        ([98.83, 98.7, 98.96], [98.9], 0.0, "yes"),
        ([97.57], [98.5], 0.0, "no"),  # one seed: the margin alone
        ([98.0], [98.5], 0.0, "yes"),  # on the margin, both sides
        ([99.0], [98.5], 0.0, "yes"),
        ([97.99], [98.5], 0.0, "no"),
        ([99.01], [98.5], 0.0, "better"),
        ([74.0, 86.0], [86.0], 0.0, "yes"),  # 2 x 6 points of standard error
        ([79.9, 80.1], [86.0], 0.0, "no"),
        ([80.0, 80.0], [80.6], 0.0, "no"),
        ([80.0, 80.0], [80.6], 0.3, "yes"),  # the published mean's own error
        ([71.57], [70.0, 71.4, 72.8], 0.0, "yes"),  # inside the range
        ([73.3], [70.0, 72.8], 0.0, "yes"),
        ([73.31], [70.0, 72.8], 0.0, "better"),
        ([69.4], [70.0, 72.8], 0.0, "no"),
        ([0.0], [0.0], 0.0, "yes"),
        ([100.0, nan], [99.0], 0.0, "no"),
        ([inf], [99.0], 0.0, "no"),
        ([], [99.0], 0.0, ""),
        ([99.0], [], 0.0, ""),
    ],
)
def test_the_rule(accuracies, published, error, found):
    assert judge(accuracies, published, error) == found


def told(cell: Cell, *accuracies: float) -> str:
    return verdict.verdict(cell, [{"test_accuracy": str(a)} for a in accuracies])


def test_a_verdict_names_what_it_is_held_against():
    cell = Cell("x", "", {}, {"test_accuracy": 80.0})
    assert [told(cell, a) for a in (79.0, 80.0, 81.0)] == ["**no**", "yes", "better"]
    assert told(cell) == ""
    assert told(replace(cell, comparable=False), 80.0) == ""
    aim = replace(cell, comparable=False, target=98.5)
    assert [told(aim, a) for a in (98.49, 98.5)] == ["**no** (≥ 98.5)", "yes (≥ 98.5)"]
    assert told(EXPERIMENTS["table2"].cell("mnist-3-zero"), 71.57) == "yes (70 to 72.8)"


def test_a_run_has_one_verdict_in_all_tables():
    said = defaultdict(set)
    for name, experiment in EXPERIMENTS.items():
        rows = results.read(results.path(name, FOLDER))
        for cell in experiment.cells if experiment.verdict else ():
            if cell.target is None:
                said[cell.name].add(verdict.outcome(cell, results.of_cell(rows, cell.name)))
    assert len(said) > 80
    assert {name: found for name, found in said.items() if len(found) > 1} == {}


def test_figures_of_a_run_are_those_of_all_experiments():
    zero = [70.0, 71.4, 71.6, 72.0, 72.8]
    assert figures_of(EXPERIMENTS["table1"].cell("mnist-3-zero")) == zero
    assert figures_of(EXPERIMENTS["figure1"].cell("mnist-3-normal")) == [98.9, 99.0]
    assert figures_of(EXPERIMENTS["table2"].cell("mnist-3-normal-halvings")) == [99.4]
    assert told(EXPERIMENTS["table2"].cell("mnist-3-normal-halvings"), 99.2) == "yes (99.4)"
    assert figures_of(EXPERIMENTS["breakers"].cell("cifar10-3-break-patches")) == []
    assert figures_of(EXPERIMENTS["schicho"].cell("mnist-cnn-quarter-normal")) == []


def test_the_rule_stands_on_the_page():
    assert verdict.RULE in HEAD
    assert f"{verdict.MARGIN:g} points" in verdict.RULE
