"""Runs on images that a program gives, or that lie in its own folders and files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from softhebb_fast.data import ImageSet, from_arrays
from softhebb_fast.training import runs
from softhebb_fast.training.backprop import BackpropTrainer
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import load_run, read_config
from softhebb_fast.training.trainer import Trainer

OPTIONS = {"neuron_factor": 0.02, "unsup_batch": 16, "probe_batch": 16, "probe_epochs": 1}


def config(dataset: str = "mine", **changes) -> RunConfig:
    return RunConfig("3SoftHebbCnnCIFAR", dataset, **OPTIONS | changes)


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 16, 16] of two brightnesses, and which."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    noise = generator.integers(0, 100, (n, 16, 16))
    return (noise + 100 * labels[:, None, None]).astype(np.uint8), labels


class Heard(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def as_set(n: int, seed: int) -> ImageSet:
    return from_arrays(*drawn(n, seed))


def as_dataset(n: int, seed: int) -> TensorDataset:
    images, labels = drawn(n, seed)
    return TensorDataset(torch.from_numpy(images)[:, None] / 255, torch.from_numpy(labels))


def as_words(n: int, seed: int) -> tuple[np.ndarray, list[str]]:
    images, labels = drawn(n, seed)
    return images.astype(np.uint16) * 257, [("dark", "light")[i] for i in labels]


@pytest.mark.parametrize("kind", [drawn, as_set, as_dataset, as_words], ids=lambda f: f.__name__)
def test_all_kinds_give_the_same_run(tmp_path, kind):
    run = Trainer(config(), tmp_path / "a", train=kind(48, 0), test=kind(16, 1))
    assert run.train_set.image_shape == (1, 16, 16)
    accuracy = run.run()["test_accuracy"]
    plain = Trainer(config(), tmp_path / "b", train=drawn(48, 0), test=drawn(16, 1))
    assert accuracy == plain.run()["test_accuracy"]
    weights = run.net.blocks[0].layer.weight, plain.net.blocks[0].layer.weight
    assert (weights[0] - weights[1]).abs().max() < 1e-4


def test_what_was_changed_is_said(tmp_path):
    heard = Heard()
    Trainer(config(), tmp_path, train=as_words(48, 0), test=as_words(16, 1), reporter=heard)
    assert heard.said == [
        "given:mine (train): 48 images: uint16 was divided by 65535",
        "given:mine (test): 16 images: uint16 was divided by 65535",
    ]


def test_resume_and_evaluate_need_the_images_again(tmp_path):
    given = {"train": drawn(48), "test": drawn(16, 1)}
    run = Trainer(config("mnist"), tmp_path, **given)
    whole = run.run()
    assert read_config(tmp_path)[0].dataset == "given:mnist"
    with pytest.raises(ValueError, match="'given:mnist' names images that a program gave"):
        runs.resume(tmp_path)
    with pytest.raises(ValueError, match="train and test must hold the data that the run"):
        runs.resume(tmp_path, train=drawn(48), test=drawn(16, 2))
    assert runs.resume(tmp_path, **given).run()["test_accuracy"] == whole["test_accuracy"]
    saved = load_run(tmp_path)
    with pytest.raises(ValueError, match="as test to evaluate"):
        saved.evaluate()
    assert saved.evaluate(test=run.test_set)[1] == whole["test_accuracy"]


def test_sets_that_are_read_otherwise_are_others(tmp_path):
    given = {"train": as_set(48, 0), "test": as_set(16, 1)}
    Trainer(config(), tmp_path, **given).run()
    assert runs.resume(tmp_path, **given).finished
    for change in ({"mean": (0.5,), "std": (0.5,)}, {"classes": ("b", "a")}):
        other = {part: replace(images, **change) for part, images in given.items()}
        with pytest.raises(ValueError, match=r"train and test must hold the data .*test: 16 im"):
            runs.resume(tmp_path, **other)


def test_holding_out(tmp_path):
    how = {"holdout": 0.25, "normalise": "train"}
    run = Trainer(config(reading=how), tmp_path, train=drawn(40))
    assert (len(run.train_set), len(run.test_set)) == (30, 10)
    assert run.train_set.mean == run.test_set.mean == run.train_set.moments()[0]
    with pytest.raises(ValueError, match="test must be given, or reading="):
        Trainer(config(), tmp_path / "b", train=drawn(40))
    with pytest.raises(ValueError, match="holdout is for runs without test"):
        Trainer(config(reading=how), tmp_path / "b", train=drawn(40), test=drawn(10))
    with pytest.raises(ValueError, match="train must be given with test"):
        Trainer(config(), tmp_path / "b", test=drawn(10))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        (drawn(8), (np.zeros((4, 9, 9), np.uint8), [0, 1, 0, 1]), "the same image_shape"),
        (drawn(8), (drawn(2)[0], [0, 5]), "got 5 for image 1"),
        ((drawn(8)[0], None), drawn(4), "the train images must all have labels"),
        (drawn(8), (drawn(4)[0], [0, 1, -1, 0]), "the test images must all have labels"),
        ((drawn(2)[0] * np.nan, [0, 1]), drawn(2), "images must be finite; image 0"),
        (drawn(8), from_arrays(*drawn(4), classes=["x", "y"]), "the same classes"),
    ],
    ids=range(6),
)
def test_images_that_do_not_fit(tmp_path, train, test, match):
    with pytest.raises(ValueError, match=match):
        Trainer(config(), tmp_path / "run", train=train, test=test)
    assert not (tmp_path / "run").exists()


def test_own_folders_in_a_run(tmp_path, monkeypatch):
    images, labels = drawn(60)
    for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / f"photos/{'ab'[label]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    how = {"holdout": 0.2}
    run = Trainer(config("photos", reading=how), tmp_path / "run")
    assert run.config.dataset == f"imagefolder:{tmp_path}/photos"
    assert run.train_set.image_shape == (1, 16, 16)
    assert run.train_set.mean == run.test_set.mean
    summary = run.run()
    monkeypatch.chdir("/")
    saved = load_run(tmp_path / "run")
    assert saved.evaluate()[1] == summary["test_accuracy"]
    assert torch.equal(saved.load("test").images, run.test_set.images)
    data = saved.data | {"test": saved.data["test"] | {"digest": "0"}}
    with pytest.raises(ValueError, match=r"must be the data that this run was begun on \(test: "):
        replace(saved, data=data).evaluate()
    assert runs.resume(tmp_path / "run").run()["test_accuracy"] == summary["test_accuracy"]


def test_backpropagation_on_given_images(tmp_path):
    wanted = BackpropConfig(
        "perceptron", "mine", epochs=20, batch=8, lr=0.01, options={"hidden": [8]}
    )
    run = BackpropTrainer(wanted, tmp_path, train=drawn(48), test=drawn(16, 1))
    assert run.run()["test_accuracy"] > 80


@pytest.mark.parametrize(
    ("reading", "error", "match"),
    [
        ({"size": 3}, ValueError, "reading must hold .*image_size.*; got size"),
        ([1], TypeError, "reading must be a dict"),
        ({"channels": 4}, ValueError, "channels must be 1 or 3"),
    ],
)
def test_reading_is_checked(reading, error, match):
    with pytest.raises(error, match=match):
        config(reading=reading)
