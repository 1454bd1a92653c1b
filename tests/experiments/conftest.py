from __future__ import annotations

from pathlib import Path

import pytest

from softhebb_fast import experiments
from softhebb_fast.experiments import Cell, Experiment, measure, reproduce
from tests.tiny import CONFIG, write_mnist_subset

RUN = {name: value for name, value in CONFIG.items() if name != "limit"} | {
    "preset": "2SoftHebbCnnCIFAR"
}
TINY = Experiment(
    "tiny",
    "A trial",
    "Nobody 2000",
    "Text.",
    (
        Cell("one", "the first", RUN, {"test_accuracy": 50.0}, series="a", x="1"),
        Cell(
            "two",
            "the second",
            RUN | {"init": {"name": "zerO", "scale": "fork"}},
            {"test_accuracy": 99.0, "initial_nonzeros": "5"},
            series="a",
            x="2",
        ),
    ),
    {"test_accuracy": "test %", "initial_nonzeros": "non-zeros"},
    figure="bars",
)


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 96)


@pytest.fixture
def tiny(monkeypatch) -> Experiment:
    """A registry of one small experiment, with which one run is shared by a second."""
    other = Experiment("other", "Another", "Nobody", "", TINY.cells[:1], figure="curves")
    known = {"tiny": TINY, "other": other}
    for module in (experiments, reproduce):
        monkeypatch.setattr(module, "EXPERIMENTS", known)
    return TINY


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch):
    monkeypatch.setattr(measure, "SAMPLE", 20)
