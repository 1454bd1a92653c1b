"""The options of the command about images: how they are read, and where they lie later."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softhebb_fast.data import sources
from tests.cli.test_conduct import QUICK, call, demo, interrupt_after
from tests.data.writers import write_tree


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.delenv(sources.ROOT_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_run_on_a_file_of_arrays_goes_on_in_another_place(capsys, monkeypatch):
    for name in ("a.npz", "other.npz"):
        write_arrays(Path(name), bright=name == "other.npz")
    options = ["--dataset", "arrays:a.npz", "--normalise", "train", "--out", "run", *QUICK]
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2)
        assert demo(capsys, *options)[0] == 130
    shutil.move("a.npz", "b.npz")
    assert call(capsys, "resume", "run", *QUICK)[0] == 2
    code, _, err = call(capsys, "resume", "run", "--data", "other.npz", *QUICK)
    assert code == 2
    assert "--data must hold the data that the run in 'run' was begun on (train: 32 im" in err
    code, out, err = call(capsys, "resume", "run", "--data", "b.npz", *QUICK)
    assert code == 0, err
    assert "data set: arrays:b.npz, 32 training and 8 test images of 1x8x8\n" in out
    told = call(capsys, "evaluate", "run", "--data", "b.npz")[1]
    assert told.split(",")[0] in out


def write_arrays(path: Path, bright: bool = False) -> None:
    images = np.arange(32 * 64, dtype=np.uint8).reshape(32, 8, 8) // (1 if bright else 2)
    labels = np.arange(32) % 4
    np.savez(path, x_train=images, y_train=labels, x_test=images[:8], y_test=labels[:8])


def test_the_reading_is_part_of_what_goes_on(capsys, monkeypatch):
    write_tree(Path("tree"), "train", {"left": 8, "right": 8})
    write_tree(Path("tree"), "test", {"left": 2, "right": 2})
    options = ["--dataset", "tree", "--size", "9", "12", "--normalise", "[[0.5],[0.2]]", *QUICK]
    options += ["--channels", "1"]
    interrupt_after(monkeypatch, 1)
    assert demo(capsys, *options)[0] == 130
    code, out, err = demo(capsys, *options)
    assert code == 0, err
    assert "runs/DemoMNIST-tree-0 was stopped before its end, and goes on\n" in out
    assert "4 test images of 1x9x12\n" in out
    assert "writing to runs/DemoMNIST-tree-0-2\n" in demo(capsys, *options, "--size", "9")[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--size must be given, as the images of"),
        (["--size", "0"], "--size must be a positive side, or (height, width); got 0"),
        (["--size", "8", "--holdout", "2"], "--holdout must be a fraction between 0 and 1"),
        (["--size", "8", "--layout", "CHW"], "--layout is for arrays; got 'CHW' for image"),
        (["--size", "8", "--value-range", "0", "x"], "must be two numbers, or raw; got 'x'"),
        (["--size", "8", "--normalise", "trian"], "must be one of off, train, imagenet or such"),
        (["--size", "8", "--normalise", "[[1]]"], "--normalise must be [means, deviations]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("network", [("train", "DemoMNIST"), ("backprop", "perceptron")])
def test_mistakes_in_reading_are_told_in_the_words_of_the_command(
    capsys, network, options, message
):
    write_tree(Path("tree"), "train", {"left": 2, "right": 2})
    write_tree(Path("tree"), "test", {"left": 2, "right": 2})
    Image.new("L", (50, 9)).save("tree/train/left/wide.png")
    code, _, err = call(capsys, *network, "--dataset", "tree", *options)
    assert code == 2
    assert message in err
    assert not Path("runs").exists()


def test_a_folder_of_classes_alone_is_told_of_the_option(capsys):
    write_tree(Path(), "tree", {"left": 2, "right": 2})
    _, _, err = demo(capsys, "--dataset", "tree")
    assert "hold out a part of their images for tests with --holdout 0.2; else" in err
