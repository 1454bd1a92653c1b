from __future__ import annotations

from pathlib import Path

from softhebb_fast import cli
from softhebb_fast.experiments import EXPERIMENTS, page, results

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_page_is_what_the_results_give():
    written = (ROOT / page.PAGE).read_text(encoding="utf-8")
    given = page.page(ROOT / results.FOLDER, ROOT / page.PAGE)
    assert written == given, "write it again: softhebb-fast reproduce --page"


def test_a_page_without_results_says_so(tmp_path, capsys):
    place = tmp_path / "page.md"
    command = ["reproduce", "--page", str(place), "--results", str(tmp_path / "none")]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{place}\n"
    text = place.read_text()
    for experiment in EXPERIMENTS.values():
        assert f"## {experiment.name}: {experiment.title}\n" in text
        assert f"[{experiment.name}](#{experiment.name}-" in text
    assert text.count("Not run yet: ") == len(EXPERIMENTS)
    assert "-weights-on-four-data-sets) | 14 | 0 | 0 | 0 | 0 | 0 | 0 | 14 |" in text


def test_a_page_counts_what_came_out(tmp_path):
    rows = [
        {"cell": "mnist-3-normal", "seed": 0, "test_accuracy": 99.0},
        {"cell": "mnist-3-binary", "seed": 0, "test_accuracy": 98.0},
    ]
    results.put(results.path("table2", tmp_path), rows, [])
    (tmp_path / "table2.png").write_bytes(b"")
    (tmp_path / "table2.md").write_text("Found: it holds.\n")
    text = page.page(tmp_path, tmp_path / "docs" / "page.md")
    assert "| [table2](#table2-non-zero-weights) | 7 | 2 | 1 | 0 | 1 | 0 | 0 | 5 |" in text
    assert "![Non-zero weights](../table2.png)" in text
    assert "\nFound: it holds.\n\nNot run yet: `mnist-3-normal-halvings`" in text


def test_a_run_that_diverged_has_been_run(tmp_path):
    rows = [{"cell": "mnist-3-normal", "seed": 0, "note": "diverged: layer 1 became infinite"}]
    results.put(results.path("table2", tmp_path), rows, [])
    text = page.page(tmp_path, tmp_path / "docs" / "page.md")
    assert "| [table2](#table2-non-zero-weights) | 7 | 0 | 0 | 0 | 0 | 0 | 0 | 6 |" in text
    assert "| diverged: layer 1 became infinite |" in text
    missing = text.split("## table2")[1].split("Not run yet: ")[1].split(". `softhebb-fast")[0]
    assert "`mnist-3-normal`," not in missing
