from __future__ import annotations

import os
from dataclasses import replace

import pytest

from softhebb_fast.experiments import results, table, verdict
from tests.experiments.conftest import TINY


def row(cell: str, seed: int = 0, accuracy: float | None = 90.0, **more) -> dict:
    return {"cell": cell, "seed": seed, "test_accuracy": accuracy, "minutes": 2.0, **more}


def test_rows_replace_their_elders_and_keep_order(tmp_path):
    path = results.path("tiny", tmp_path / "new")
    assert results.read(path) == []
    results.put(path, [row("two"), row("one", 10)], ["one", "two"])
    results.put(path, [row("one", 2, 1 / 3), row("two", accuracy=70.5)], ["one", "two"])
    results.put(path, [row("one", 2, limit=100)], ["one", "two"])
    found = [(r["cell"], r["seed"], r["limit"], r["test_accuracy"]) for r in results.read(path)]
    assert found == [
        ("one", "2", "", "0.333333"),
        ("one", "10", "", "90"),
        ("one", "2", "100", "90"),
        ("two", "0", "", "70.5"),
    ]
    assert os.listdir(path.parent) == ["tiny.csv"]
    assert path.read_text().splitlines()[0] == ",".join((*results.COLUMNS, "digest"))
    assert len(results.of_cell(results.read(path), "one")) == 2


def test_a_row_is_as_it_was_written_or_refused(tmp_path):
    path = results.path("tiny", tmp_path)
    results.put(path, [row("one"), row("two", accuracy=80.5)], ["one", "two"])
    whole = path.read_text()
    for old, new in (("80.5", "90.5"), ("test_loss", "tesu_loss"), (",digest", ",digess")):
        assert old in whole
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(ValueError, match=r"tiny\.csv are damaged: row \d .*by its digest"):
            results.read(path)
        with pytest.raises(ValueError, match="are damaged"):
            results.put(path, [row("three")], [])
    path.write_text(whole[:-40])
    with pytest.raises(ValueError, match=r"tiny\.csv are damaged: row 2"):
        results.read(path)
    path.write_text("")
    with pytest.raises(ValueError, match="its first line must name every column once"):
        results.read(path)


def test_rows_from_before_digests(tmp_path):
    path = results.path("tiny", tmp_path)
    path.write_text("cell,seed,limit,test_accuracy\none,0,,70\n")
    assert results.read(path)[0]["test_accuracy"] == "70"
    results.put(path, [row("two")], ["one", "two"])
    assert [r["cell"] for r in results.read(path)] == ["one", "two"]


def test_committed_results_can_be_read():
    for path in results.FOLDER.glob("*.csv"):
        assert results.read(path), path


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = results.path("tiny", tmp_path)
    results.put(path, [row("one")], ["one"])
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        results.put(path, [row("one", 1)], ["one"])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["tiny.csv"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="results must be a folder that can be written"):
        results.put(results.path("tiny", tmp_path / "file"), [row("one")], ["one"])


def test_the_table_compares(tmp_path):
    path = results.path("tiny", tmp_path)
    about = {"protocol": "1 x 16, 2 x 32", "backend": "cpp", "precision": "float32", "threads": 2}
    rows = [
        row("one", 0, 60.0, **about),
        row("one", 1, 70.0, **about | {"minutes": 4.0}),
        row("one", 2, 1.0, limit=8, **about),
        row("two", 0, None, note="the files are not here"),
    ]
    results.put(path, rows, ["one", "two"])
    assert table.table(TINY, results.read(path)).splitlines() == [
        "|  | test %, published | ours | non-zeros, published | ours | seeds | reproduced "
        "| protocol | backend | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| the first | 50.0 | 65.00 ± 5.00 |  |  | 2 | better | 1 x 16, 2 x 32 "
        "| cpp float32, 2 threads | 3.0 |",
        "| the second | 99.0 | not run: the files are not here | 5 |  | 0 |  |  |  |  |",
    ]
    shown = table.overview(TINY, results.read(path)).splitlines()
    assert shown[1].endswith("50.0  the first: seeds 0, 1 in 3.0 minutes each")
    assert shown[2].endswith("99.0  the second: not run: the files are not here")


def test_figures_of_a_table():
    one = TINY.cells[0]
    assert verdict.verdict(one, []) == ""
    assert verdict.verdict(one, [{"test_accuracy": "0.05"}]) == "**no**"
    assert table.ours([{"x": "0.01"}, {"x": "0.03"}], "x") == "0.02 ± 0.01"
    assert table.ours([{"x": "1 2"}, {"x": "1 3"}, {"x": "1 2"}], "x") == "1 2; 1 3"


def test_a_table_without_goals_has_no_verdicts():
    free = replace(TINY, verdict="", columns={"norm_mean": "norm"})
    lines = table.table(free, []).splitlines()
    assert lines[0] == "|  | norm | seeds | protocol | backend | minutes |"
    assert lines[2] == "| the first | not run | 0 |  |  |  |"
