"""Runs that differ in their seeds learn on the device together what each learns alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from softhebb_fast.training import steps
from softhebb_fast.training.together import learn_together
from tests.gpu import DEVICE, MARKS, needs_cuda
from tests.tiny import trainer, write_mnist_subset
from tests.training.test_together import TINY, assert_same_run, runs

pytestmark = MARKS
ON = {"device": str(DEVICE)}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 100)


@pytest.mark.parametrize("mode", ["successive", "consecutive"])
def test_runs_together_are_runs_alone(mode, root, tmp_path):
    together = runs(tmp_path / "a", root, mode=mode, **ON)
    learn_together(together)
    for ours in together:
        ours.run()
        seed = ours.config.seed
        alone = trainer(tmp_path / f"b{seed}", root, **TINY, **ON, mode=mode, seed=seed)
        alone.run()
        assert_same_run(ours, alone)


@needs_cuda
def test_joint_steps_are_replayed(root, tmp_path, monkeypatch):
    record, made = steps.GraphCapture.record, []

    def counted(self, work):
        made.append(work)
        return record(self, work)

    monkeypatch.setattr(steps.GraphCapture, "record", counted)
    together = runs(tmp_path, root, **ON)
    learn_together(together)
    assert made
    assert all(run.finished for run in together)  # their classifiers too
