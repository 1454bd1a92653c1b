"""``softhebb-fast backprop``: options reach the configuration, and a run all other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from softhebb_fast.training.run_folder import read_config
from tests.cli.calls import call
from tests.tiny import write_mnist_subset


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 64)


def test_train_evaluate_plot_resume(capsys, tmp_path, root):
    out = tmp_path / "run"
    steps = ["--symmetry-steps", 0, 4]
    where = ["--data", root, "--out", out, "--device", "cpu", "--quiet"]
    settings = ["--option", "hidden=[9]", "--init", "zero_bias:distribution=uniform,scale=0.5"]
    numbers = ["--epochs", 2, "--batch", 32, "--no-reshuffle", "--optimizer", "sgd", "--lr", 0.1]
    code, text, _ = call(capsys, "backprop", "perceptron", *settings, *numbers, *steps, *where)
    assert code == 0
    assert "test accuracy" in text
    config, _ = read_config(out)
    assert config.options == {"hidden": [9]}
    assert config.init == {"name": "zero_bias", "distribution": "uniform", "scale": 0.5}
    assert (config.epochs, config.reshuffle, config.lr) == (2, False, 0.1)
    assert config.symmetry_steps == (0, 4)
    assert json.loads((out / "config.json").read_text())["kind"] == "backprop"
    files = {"config.json", "checkpoint.pt", "metrics.csv", "symmetry.csv", "curves.png"}
    assert {path.name for path in out.iterdir()} == files
    (out / "curves.png").unlink()
    code, text, _ = call(capsys, "plot", out)
    assert (code, text) == (0, f"{out / 'curves.png'}\n")
    told = call(capsys, "evaluate", out)[1]
    assert told.startswith("test accuracy")
    assert told.split(",")[0] in call(capsys, "resume", out, "--quiet", "--no-plots")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convnet"], "NETWORK must be one of perceptron"),
        (["perceptron", "--option", "hidden"], "an option must look like widen=1; got 'hidden'"),
        (["perceptron", "--option", "depth=3"], "options of perceptron must be among hidden"),
        (["perceptron", "--init", "zer"], "init must be one of normal"),
        (["perceptron", "--lr", "-1"], "--lr must be at least 0; got -1"),
        (["perceptron", "--option", "hidden=5"], "hidden must be a list of whole numbers; got 5"),
        (["perceptron", "--normalise", "3"], "--normalise must be [means, deviations] of the"),
    ],
)
def test_mistakes(capsys, tmp_path, root, arguments, message):
    where = ["--data", root, "--out", tmp_path / "run", "--device", "cpu"]
    try:
        code, _, error = call(capsys, "backprop", *arguments, *where)
    except SystemExit as stop:  # argparse's own
        code, error = stop.code, capsys.readouterr().err
    assert code == 2
    assert message in error
