"""The cost of several processes: the committed table, the page, and the gate of what is timed."""

from __future__ import annotations

import csv

import pytest
import torch

from benchmarks.processes import measure, model
from tests.docs.blocks import DOCS


def test_the_table_is_what_the_model_computes_and_the_page_shows_it():
    with open(model.TABLE, newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert found == [{k: str(v) for k, v in row.items()} for row in model.rows()]
    page = (DOCS / "processes.md").read_text(encoding="utf-8")
    for table in model.tables().split("\n\n"):
        assert table in page


def test_two_processes_pay_where_products_outweigh_their_message():
    first = next(model.layers("4SoftHebbCnnCIFAR"))
    assert model.most(first, first.batch) == 1
    assert model.most(first, 8192) > 8
    assert first.bytes == 4 * 96 * 3 * 25 + 8 * 7


class Side:
    def __init__(self, *weights: torch.Tensor) -> None:
        self.weights = list(weights)

    def tell(self, *told: object) -> list[torch.Tensor]:
        return self.weights


def test_nothing_is_timed_that_comes_to_something_else():
    one = torch.ones(3)
    measure.gate("case", [Side(one), Side(one, one)])
    with pytest.raises(ValueError, match="case: the processes come to different bits"):
        measure.gate("case", [Side(one), Side(one, 2 * one)])
    with pytest.raises(ValueError, match="come to other weights than one"):
        measure.gate("case", [Side(one), Side(2 * one, 2 * one)])
