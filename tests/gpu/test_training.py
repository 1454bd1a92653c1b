"""Runs on the device: replayed steps are launched steps, and nothing in them waits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softhebb_fast.backends import choose
from softhebb_fast.data import permutation
from softhebb_fast.experiments import measure
from softhebb_fast.training import steps
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.steps import GraphSteps, runner
from tests.gpu import DEVICE, MARKS, needs_cuda
from tests.tiny import trainer, write_mnist_subset
from tests.training.test_resume import ending, is_same, run_with_stops
from tests.training.test_steps import (
    IMAGES,
    NET,
    features,
    hebbian,
    images,
    scheduled,
    supervised,
    walk,
)
from tests.training.test_steps import state as state_of

pytestmark = MARKS

MODES = {
    "successive": {},
    "consecutive": {"mode": "consecutive"},
    "simultaneous": {"mode": "simultaneous"},
    "not cached": {"cache_gib": 0.0},
    "bfloat16": {"preset": "3CnnCIFAR", "autocast": True},
    "end to end": {"preset": "3CnnCIFAR", "mode": "consecutive"},
    "uneven": {"unsup_batch": 12, "probe_batch": 28},
}


class Heard(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def records(monkeypatch) -> list[str]:
    """One entry for every capture."""
    record, made = steps.GraphCapture.record, []

    def counted(self, work):
        made.append("captured")
        return record(self, work)

    monkeypatch.setattr(steps.GraphCapture, "record", counted)
    return made


@pytest.mark.parametrize("mode", MODES)
def test_a_replayed_run_is_a_launched_run(mode, tmp_path, root, records, monkeypatch):
    options = {"device": str(DEVICE), "unsup_epochs": 2, **MODES[mode]}
    heard = Heard()
    trainer(tmp_path / "replayed", root, heard, **options).run()
    assert bool(records) == (DEVICE.type == "cuda")
    assert not any("one by one" in text for text in heard.said)
    monkeypatch.setenv(steps.VARIABLE, "0")
    records.clear()
    trainer(tmp_path / "launched", root, **options).run()
    assert not records
    assert is_same(ending(tmp_path / "replayed"), ending(tmp_path / "launched"))


@pytest.mark.parametrize("stops", [[2], [7], [12, 3], [25], [28], [3, 1, 5, 4, 8, 1, 4, 3]])
def test_a_resumed_run_is_a_run_without_a_stop(stops, tmp_path, root):
    options = {"device": str(DEVICE)}
    trainer(tmp_path / "whole", root, **options).run()
    assert run_with_stops(tmp_path / "stopped", root, stops, **options) == len(stops)
    assert is_same(ending(tmp_path / "whole"), ending(tmp_path / "stopped"))


def test_a_run_agrees_with_the_cpu(tmp_path, root):
    """Both in float32 and exact products; a step more or less at a tie does not show here."""
    accuracies = [
        trainer(tmp_path / out, root, device=device, probe_epochs=6).run()["test_accuracy"]
        for out, device in (("a", "cpu"), ("b", str(DEVICE)))
    ]
    assert abs(accuracies[0] - accuracies[1]) < 15


def test_a_run_is_measured_on_its_device(tmp_path, root):
    trainer(tmp_path, root, device=str(DEVICE)).run()
    assert measure.measure(tmp_path)["backend"] == choose(DEVICE.type)
    assert measure.curves(tmp_path)[0]["epoch"] == 0


@needs_cuda
@pytest.mark.parametrize(
    "make",
    [
        lambda move: hebbian(images(DEVICE), NET, move),
        lambda move: hebbian(images(DEVICE, normalised=True), NET, move, trained=(1,)),
        lambda move: supervised(features(DEVICE), NET, move),
        lambda move: supervised(images(DEVICE), NET, move, together=True),
        lambda move: hebbian(images(DEVICE), scheduled(NET, "exponential"), move),
    ],
    ids=["hebbian", "one layer", "classifier", "together", "decaying"],
)
def test_steps_of_the_published_net(make):
    """Bit by bit, dropout included, and with torch's own watch for operations that wait."""
    found = []
    for replays in (True, False):
        stage = make(lambda net: net.to(DEVICE))
        way = runner(stage, pytest.fail) if replays else steps.EagerSteps(stage)
        assert type(way) is (GraphSteps if replays else steps.EagerSteps)
        torch.manual_seed(1)
        walk(way, stage)
        if replays:
            torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(4):
                    way.position.zero_()
                    way.work()
                    way.position.zero_()
                    way.replays[1]()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        else:
            first = permutation(IMAGES, 0, 1)[: stage.batch_size].to(DEVICE)
            for _ in range(8):
                stage.learn(*stage.inputs.source.batch(first))
        found.append((state_of(stage), torch.cuda.get_rng_state()))
    assert is_same(*found)
