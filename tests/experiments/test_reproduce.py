"""Runs of an experiment: made once, resumed bit by bit, measured, shared, drawn."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softhebb_fast import cli
from softhebb_fast.data.sources import DataMissing
from softhebb_fast.experiments import figures, measure, reproduce, results
from softhebb_fast.experiments.table import table
from softhebb_fast.training import checkpoint, run_folder
from softhebb_fast.training.finite import NotFinite
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.run_folder import load_run
from softhebb_fast.training.together import learn_together
from softhebb_fast.training.trainer import Trainer
from tests.test_files import hold
from tests.tiny import edit_config
from tests.tolerances import literal
from tests.training.test_resume import StopAt, is_same


def make(tiny, tmp_path, root, **options) -> list[reproduce.Outcome]:
    options = {"seeds": [0], "root": root} | options
    seeds = options.pop("seeds")
    where = (tmp_path / "runs", tmp_path / "results")
    return list(reproduce.reproduce(list(tiny.cells), seeds, *where, **options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, root) -> Path:
    """The folder of the finished run of the cell "one", seed 0."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    from tests.experiments.conftest import TINY

    Trainer(TINY.cells[0].config(0), folder, root=root).run()
    return folder


def test_runs_are_made_once_and_shared(tiny, tmp_path, root):
    outcomes = make(tiny, tmp_path, root, seeds=[0, 1])
    assert [(o.cell.name, o.seed, o.problem) for o in outcomes] == [
        ("one", 0, ""),
        ("two", 0, ""),
        ("one", 1, ""),
        ("two", 1, ""),
    ]
    assert sorted(os.listdir(tmp_path / "runs")) == ["one-0", "one-1", "two-0", "two-1"]
    found = results.read(results.path("tiny", tmp_path / "results"))
    assert [(r["experiment"], r["cell"], r["seed"]) for r in found] == [
        ("tiny", "one", "0"),
        ("tiny", "one", "1"),
        ("tiny", "two", "0"),
        ("tiny", "two", "1"),
    ]
    assert (found[2]["initial_nonzeros"], found[2]["initial_distinct"]) == ("5", "1")
    assert [r["cell"] for r in results.read(results.path("other", tmp_path / "results"))] == [
        "one",
        "one",
    ]
    curves = results.read(results.path("other_curves", tmp_path / "results"))
    epochs = [float(r["epoch"]) for r in curves if r["seed"] == "0"]
    assert epochs[0] == 0
    assert epochs[-1] == 1
    assert epochs == sorted(epochs)

    def never(trainer):
        raise AssertionError("a finished run was made again")

    again = make(tiny, tmp_path, root, seeds=[0, 1], run=never)
    assert [dict(o.row) for o in again] == found[:1] + found[2:3] + found[1:2] + found[3:]


def test_seeds_whose_layers_learn_together_give_the_same_results(tiny, tmp_path, root):
    asked = []

    def together(trainers):
        asked.append([trainer.out.name for trainer in trainers])
        learn_together(trainers)

    outcomes = make(tiny, tmp_path / "a", root, seeds=[0, 1, 1], together=together)
    alone = make(tiny, tmp_path / "b", root, seeds=[0, 1])
    assert asked == [["one-0", "one-1"], ["two-0", "two-1"]]
    assert [(o.cell.name, o.seed, o.problem) for o in outcomes] == [
        (o.cell.name, o.seed, o.problem) for o in alone
    ]
    for ours, theirs in zip(outcomes, alone, strict=True):
        for name in ("test_accuracy", "train_loss", "initial_nonzeros"):
            assert float(ours.row[name]) == pytest.approx(float(theirs.row[name]), rel=1e-5)
    asked.clear()
    make(tiny, tmp_path / "a", root, seeds=[0, 1], together=together)  # all are finished
    make(tiny, tmp_path / "a", root, seeds=[0, 2], together=together)  # one is not
    assert asked == []


def test_seeds_of_which_one_diverges_go_on_alone(tiny, tmp_path, root):
    def diverging(trainers):
        raise NotFinite("layer 1 became infinite at batch 2")

    outcomes = make(tiny, tmp_path, root, seeds=[0, 1], together=diverging)
    assert [o.problem for o in outcomes] == [""] * 4


def test_seeds_that_another_process_is_at_or_whose_data_are_missing_are_left(
    tiny, tmp_path, root, monkeypatch
):
    def never(trainers):
        raise AssertionError("fewer than two runs were to be made together")

    (tmp_path / "runs" / "one-1").mkdir(parents=True)
    (tmp_path / "runs" / "two-1").mkdir()
    others = [hold(tmp_path / "runs" / f"{name}-1") for name in ("one", "two")]
    try:
        outcomes = make(tiny, tmp_path, root, seeds=[0, 1], together=never)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert [bool(o.problem) for o in outcomes] == [False, False, True, True]

    def missing(*given):
        raise DataMissing("no images")

    monkeypatch.setattr(reproduce, "open_run", missing)
    outcomes = make(tiny, tmp_path / "b", root, seeds=[0, 1], together=never)
    assert [o.problem for o in outcomes] == ["no images"] * 4


def test_results_that_were_cut_short_between_two_files_are_completed(
    tiny, tmp_path, root, monkeypatch
):
    whole = tmp_path / "whole"
    make(tiny, tmp_path, root)
    shutil.copytree(tmp_path / "results", whole)
    names, put = sorted(os.listdir(whole)), results.put
    assert "other_curves.csv" in names
    for last in range(2 * len(names)):
        shutil.rmtree(tmp_path / "results")
        left = iter(range(last))

        def cut(path, *rest, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            put(path, *rest)

        monkeypatch.setattr(results, "put", cut)
        with contextlib.suppress(KeyboardInterrupt):
            make(tiny, tmp_path, root)
        monkeypatch.setattr(results, "put", put)
        make(tiny, tmp_path, root)
        assert sorted(os.listdir(tmp_path / "results")) == names
        for name in names:
            rows = [results.read(folder / name) for folder in (whole, tmp_path / "results")]
            assert len(rows[0]) == len(rows[1]), (last, name)


def test_a_row_tells_what_the_run_was(tiny, finished, root):
    row = measure.measure(finished)
    run = load_run(finished)
    loss, accuracy = run.evaluate()
    assert row["test_accuracy"] == accuracy
    assert row["test_loss"] == loss
    assert row["logged_test_loss"] == loss / 1000
    probes = [r for r in run.rows if "train_loss" in r]
    assert row["logged_train_loss"] == literal(sum(r["train_loss"] for r in probes) / 2 / 32)
    last = [r for r in run.rows if r["phase"] == "hebbian"][-1]
    assert row["distinct_filters"] == str(last["distinct_filters"]) == "5"
    assert row["protocol"] == "1 x 16, 2 x 32"
    assert row["initial_nonzeros"] == "125"
    assert row["threads"] == torch.get_num_threads()
    assert row["torch"] == torch.__version__
    assert (row["backend"], row["precision"]) != ("auto", "")
    assert set(row) <= set(results.COLUMNS)


def test_curves_begin_before_training(finished, root):
    run, rows = load_run(finished), measure.curves(finished)
    assert rows[0]["epoch"] == 0
    assert rows[0]["norm_mean"] == literal(
        float(measure.initial(run).blocks[0].layer.norms().mean())
    )
    assert rows[-1]["norm_mean"] == literal(float(run.net.blocks[0].layer.norms().mean()))


def test_a_run_is_measured_where_it_was_trained(finished, monkeypatch):
    """On images beside its network: another device than the CPU's is only pretended here."""
    run, load, devices = load_run(finished), run_folder.load, []

    def loaded(*args, device="cpu", **options):
        devices.append(device)
        return load(*args, **options)

    run = replace(run, config=replace(run.config, device="cuda"))
    monkeypatch.setattr(run_folder, "load", loaded)
    monkeypatch.setattr(measure, "load_run", lambda folder: run)
    measure.measure(finished)
    measure.curves(finished)
    assert devices == ["cuda", "cuda"]


def test_a_stopped_run_goes_on_to_the_same_bits(tiny, tmp_path, root, finished):
    reporter = StopAt(4)

    def stopping(trainer):
        reporter.trainer = trainer
        trainer.run()

    with pytest.raises(Interrupted):
        make(tiny, tmp_path, root, reporter=reporter, run=stopping)
    folder = tmp_path / "runs" / "one-0"
    assert not measure.is_finished(folder)
    assert results.read(results.path("tiny", tmp_path / "results")) == []
    make(tiny, tmp_path, root)
    a, b = checkpoint.load(folder)["model"], checkpoint.load(finished)["model"]
    assert is_same(a, b)


def test_missing_data_leaves_its_reason_and_the_rest_goes_on(tiny, tmp_path, root, monkeypatch):
    load = Trainer._load_data

    def lacking(self, device):
        if self.config.init is None:
            raise DataMissing("mnist (train) is incomplete: /a/b lacks it")
        return load(self, device)

    monkeypatch.setattr(Trainer, "_load_data", lacking)
    outcomes = make(tiny, tmp_path, root)
    assert [o.problem for o in outcomes] == ["mnist (train) is incomplete: /a/b lacks it", ""]
    assert os.listdir(tmp_path / "runs") == ["two-0"]
    first, second = results.read(results.path("tiny", tmp_path / "results"))
    assert (first["test_accuracy"], first["note"]) == ("", "MNIST/raw is not in the data folder")
    assert float(second["test_accuracy"]) > 0
    monkeypatch.undo()


def test_a_run_that_diverges_leaves_its_reason_and_the_rest_goes_on(tiny, tmp_path, root):
    def diverging(trainer):
        if trainer.config.init is None:
            raise NotFinite("layer 1 became infinite at batch 2")
        trainer.run()

    first, second = make(tiny, tmp_path, root, run=diverging)
    assert (first.row, first.problem) == (None, "layer 1 became infinite at batch 2")
    assert second.row is not None
    path = results.path("tiny", tmp_path / "results")
    noted = results.read(path)[0]
    assert noted["test_accuracy"] == ""
    assert noted["note"] == "diverged: layer 1 became infinite at batch 2"
    assert "| diverged: layer 1 became infinite" in table(tiny, results.read(path))
    first, _ = make(tiny, tmp_path, root)
    assert first.row is not None
    assert results.read(path)[0]["note"] == ""


def test_a_folder_that_is_gone_is_no_missing_data(tiny, tmp_path, root):
    def removing(trainer):
        shutil.rmtree(trainer.out)
        trainer.run()

    with pytest.raises(FileNotFoundError, match=r"its folder is gone: '.*one-0/.*'"):
        make(tiny, tmp_path, root, run=removing)
    assert results.read(results.path("tiny", tmp_path / "results")) == []


def test_a_run_of_another_process_is_left_to_it(tiny, tmp_path, root):
    (tmp_path / "runs" / "one-0").mkdir(parents=True)
    other = hold(tmp_path / "runs" / "one-0")
    try:
        first, second = make(tiny, tmp_path, root)
    finally:
        other.kill()
        other.wait()
    assert re.fullmatch(rf"process {other.pid} on \S+ is at it", first.problem)
    assert second.row is not None
    with reproduce.claimed(tmp_path / "runs" / "one-0") as taken:
        assert taken == ""
    assert os.listdir(tmp_path / "runs") == ["two-0"]


def test_another_run_in_the_folder_is_refused(tiny, tmp_path, root, finished):
    shutil.copytree(finished, tmp_path / "runs" / "two-0")
    with pytest.raises(ValueError, match=r"holds another run \(init: None there"):
        make(tiny, tmp_path, root)


def test_trials_are_kept_apart(tiny, tmp_path, root):
    make(tiny, tmp_path, root, limit=32)
    assert sorted(os.listdir(tmp_path / "runs")) == ["one-0-limit32", "two-0-limit32"]
    found = results.read(results.path("tiny", tmp_path / "results"))
    assert [r["limit"] for r in found] == ["32", "32"]
    assert results.of_cell(found, "one") == []
    assert figures.draw(tiny, tmp_path / "results") == []


def test_trials_leave_the_results_alone(tiny, tmp_path, root, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trial = ["reproduce", "tiny", "--limit", "32", "--cells", "one", "o*", "--seeds", "0", "0"]
    trial += ["--data", str(root), "--quiet"]
    assert cli.main(trial) == 0
    text = capsys.readouterr().out
    assert text.count("one, seed 0: ") == 1
    assert "% of 32 images at most in" in text
    assert "runs/reproduce/trials/tiny.csv" in text
    assert "| the first |" not in text
    assert not (tmp_path / "results").exists()
    found = results.read(Path("runs/reproduce/trials/tiny.csv"))
    assert [(row["cell"], row["limit"]) for row in found] == [("one", "32")]
    assert sorted(os.listdir("runs/reproduce")) == ["one-0-limit32", "trials"]


def test_what_was_not_run_is_said_and_no_success(tiny, tmp_path, root, finished, capsys):
    where = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "runs"), "--quiet"]
    reproduce.adopt(tiny.cells[0], finished, tmp_path / "results")
    before = results.read(results.path("tiny", tmp_path / "results"))
    (tmp_path / "empty").mkdir()
    make = ["reproduce", "tiny", "--data", str(tmp_path / "empty"), *where]
    assert cli.main([*make, "--cells", "one"]) == 1
    text = capsys.readouterr().out
    assert "one, seed 0: not run: mnist (train) is incomplete" in text
    assert "1 of 1 runs were not made" in text
    assert results.read(results.path("tiny", tmp_path / "results")) == before
    assert cli.main(["reproduce", "tiny", "--cells", "two", "--list", *where]) == 0
    text = capsys.readouterr().out
    assert "the second: not run" in text
    assert "the first" not in text
    assert cli.main(["reproduce", "tiny", "--table", "--results", str(tmp_path / "no")]) == 2
    assert "there are no results of tiny to compare" in capsys.readouterr().err


def test_finished_runs_are_adopted(tiny, tmp_path, finished, root):
    one, two = tiny.cells
    row = reproduce.adopt(one, finished, tmp_path)
    assert (
        results.read(results.path("tiny", tmp_path))[0]["test_accuracy"]
        == f"{row['test_accuracy']:.6g}"
    )
    with pytest.raises(ValueError, match="holds another run"):
        reproduce.adopt(two, finished, tmp_path)
    old = shutil.copytree(finished, tmp_path / "old")
    edit_config(old, lambda content: (content.pop("made_by"), content["run"].pop("cache_gib")))
    row = reproduce.adopt(one, old, tmp_path)
    assert (row["commit"], row["threads"]) == (None, None)
    (old / checkpoint.FILE).unlink()
    with pytest.raises(ValueError, match="has not come to its end"):
        reproduce.adopt(one, old, tmp_path / "other")


def test_the_command(tiny, tmp_path, root, capsys, finished):
    where = ["--out", tmp_path / "runs", "--results", tmp_path / "results", "--data", root]

    def call(*arguments) -> str:
        assert cli.main(["reproduce", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    text = call("tiny", "--cells", "tw*", "--quiet", *where)
    assert "two, seed 0: " in text
    assert "published 99 %" in text
    assert "| the first | 50.0 | not run |" in text
    assert text.endswith(f"tiny.csv, {tmp_path / 'results' / 'tiny.png'}\n")
    kept = ["--made-by", "threads=7", "--made-by", "commit=abc"]
    text = call("tiny", "--adopt", finished, "--cell", "one", *kept, *where)
    assert text.startswith("one, seed 0: ")
    first = results.read(results.path("tiny", tmp_path / "results"))[0]
    assert (first["cell"], first["threads"], first["commit"]) == ("one", "7", "abc")
    assert sorted(os.listdir(tmp_path / "results")) == [
        "other.csv",
        "other_curves.csv",
        "tiny.csv",
        "tiny.png",
    ]
    assert "not run" not in call("tiny", "--table", *where)
    assert "the second: seeds 0 in 0." in call("tiny", "--list", *where)
    assert (tmp_path / "results" / "other.png").exists() is False
    call("other", "--table", *where)
    assert (tmp_path / "results" / "other.png").stat().st_size > 1000
    assert call().startswith("tiny ")
    for wrong, message in (
        (["tuny"], "NAME must be one of"),
        (["tiny", "--adopt", finished], "--adopt takes --cell NAME as well"),
        (["tiny", "--cells", "three"], "--cells must match some of one, two"),
    ):
        assert cli.main(["reproduce", *map(str, wrong)]) == 2
        assert message in capsys.readouterr().err
