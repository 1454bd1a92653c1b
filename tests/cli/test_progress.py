"""Progress bars, and the figures that TensorBoard gets."""

from __future__ import annotations

import sys

import pytest

from softhebb_fast.cli.progress import Bars

ROW = {"phase": "hebbian", "layer": 2, "epoch": 0.3, "norm_mean": 4.5, "r1": 1, "seconds": 9.0}


def test_bars_show_title_progress_and_figures(capsys):
    bars = Bars()
    bars.begin("layer 1", 50, done=10)
    bars.status("epoch 1/1")
    bars.advance(40)
    bars.say("a word")
    bars.end()
    shown = capsys.readouterr().err
    assert "layer 1: 100%" in shown
    assert "50/50" in shown
    assert "epoch 1/1" in shown
    assert "a word" in shown


def test_quiet_bars_show_nothing(capsys):
    bars = Bars(quiet=True)
    bars.begin("layer 1", 50)
    bars.advance(50)
    bars.record(ROW)
    bars.end()
    assert capsys.readouterr().err == ""


def test_tensorboard_gets_the_figures(tmp_path):
    pytest.importorskip("tensorboard", reason="waits for the extra 'tensorboard'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    bars = Bars(quiet=True, tensorboard=tmp_path)
    bars.record(ROW)
    bars.record({"phase": "probe", "epoch": 2, "test_accuracy": 97.5, "seconds": 9.0})
    found = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(found.Tags()["scalars"]) == [
        "classifier/test_accuracy",
        "layer 2/norm_mean",
        "layer 2/r1",
    ]
    assert [(e.step, e.value) for e in found.Scalars("layer 2/norm_mean")] == [(30, 4.5)]


def test_tensorboard_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"softhebb_fast\[tensorboard\]"):
        Bars(tensorboard=tmp_path)
