"""Runs whose classifier is solved, sees several layers, or learns from mirror images."""

from __future__ import annotations

import json

import pytest
import torch

from softhebb_fast.data import load
from softhebb_fast.models import Views, evaluation_mode
from softhebb_fast.training import RidgeClassifier, features, memory, metrics, solved_stage
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.features import images_at_once
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.ridge import squared_error
from softhebb_fast.training.run_folder import is_finished, load_run
from tests.data.writers import python2_batch, write_cifar10
from tests.tiny import changed, snapshot, trainer, write_mnist_subset
from tests.tolerances import TOLERANCES, assert_close
from tests.training.test_resume import ending, is_same, run_with_stops

RIDGE = {"classifier": "ridge", "probe_epochs": None, "probe_batch": 30}
SOFTMAX = RIDGE | {"classifier": "softmax"}
BOTH = {"features": {"layers": [1, 2], "grid": [3, 2]}}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


class Heard(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("selection", [{}, BOTH], ids=["last layer", "two layers"])
@pytest.mark.parametrize("flips", [False, True], ids=["", "flips"])
@pytest.mark.parametrize("settings", [{}, {"penalty": "gcv", "standardise": True}], ids=str)
def test_the_head_is_the_classifier_of_the_features(tmp_path, root, selection, flips, settings):
    run = trainer(tmp_path, root, **RIDGE, **selection, flips=flips, ridge=settings)
    before = snapshot(run.net)
    summary = run.run()
    assert {"head.2.weight", "head.2.bias"} <= changed(before, snapshot(run.net))
    train, test = (load("mnist", split, root=root, limit=160) for split in ("train", "test"))
    train = train.mirrored() if flips else train
    x = train.batch(slice(None))[0]
    with torch.no_grad(), evaluation_mode(run.net):
        for module in run.net.below_head:
            x = module(x)
    other = RidgeClassifier(10, **settings)
    other.begin(len(x), x.flatten(1).shape[1])
    held = other.drawn(160, run.config.seed)
    other.add(x, train.labels, None if held is None else held.repeat(1 + flips))
    other.solve()
    row = run.rows[-1]
    assert (row["phase"], row["epoch"]) == ("ridge", 1)
    assert row["penalty"] == pytest.approx(other.penalty, rel=TOLERANCES["ridge_float32"])
    assert_close(run.net.head[-1].weight.detach(), other.weight, TOLERANCES["ridge_float32"])
    images, labels = test.batch(slice(None))
    with torch.no_grad():
        scores = run.net(images)
    accuracy = 100 * float((scores.argmax(1) == labels).double().mean())
    assert summary["test_accuracy"] == row["test_accuracy"] == pytest.approx(accuracy)
    error = float(squared_error(scores.double(), labels)) / len(labels)
    assert summary["test_squared_error"] == pytest.approx(error, rel=1e-5)
    tried = [row for row in run.rows if row["phase"] == "penalty"]
    assert len(tried) == len(other.trials)
    for ours, theirs in zip(tried, other.trials, strict=True):
        assert theirs.keys() <= ours.keys()
        assert ours["penalty"] == pytest.approx(theirs["penalty"], rel=TOLERANCES["ridge_float32"])


@pytest.mark.parametrize(
    "changes",
    [{}, BOTH | {"flips": True}, {"shifts": 1}, {"flips": True, "shifts": 2}],
    ids=["", "two layers, flips", "shifts", "flips and shifts"],
)
def test_a_run_is_tested_from_its_folder(tmp_path, root, changes):
    run = trainer(tmp_path, root, **RIDGE, **changes)
    summary = run.run()
    loaded = load_run(tmp_path)
    error, accuracy = loaded.evaluate(root)
    assert accuracy == summary["test_accuracy"]
    assert error == summary["test_squared_error"]
    assert loaded.net.views == Views(run.config.flips, run.config.shifts)
    assert is_finished(tmp_path)


def test_all_settings_are_written_down(tmp_path, root):
    run = trainer(tmp_path, root, **RIDGE, ridge={"penalty": 2}, **BOTH)
    run.run()
    kept = json.loads((tmp_path / "config.json").read_text())["run"]
    assert kept["classifier"] == "ridge"
    assert kept["ridge"] == {
        "penalty": 2.0,
        "holdout": 0.1,
        "standardise": kept["ridge"]["standardise"],
        "factors": kept["ridge"]["factors"],
        "products": "float32",
        "sums": "float64",
        "kept": None,
        "form": "auto",
    }
    assert kept["features"] == {
        **{"layers": [1, 2], "grid": [3, 2], "pool": "avg"},
        **{"window": 0.0, "mirrored": False, "power": 1.0},
    }
    assert (kept["probe_epochs"], kept["probe_batch"], kept["augment"]) == (1, 30, False)
    assert RunConfig.from_dict(kept) == run.config
    assert metrics.read_csv(tmp_path)[-1]["penalty"] == 2
    assert metrics.classifier_rows(run.rows)[0]["phase"] == "ridge"


# The two layers take 10 and 5 steps, the features of the second 1, and the classifier 6 chunks.
STOPS = {
    "before the classifier": [21],
    "in the first chunk": [22],
    "in the middle": [24],
    "in the last chunk": [27],
    "again and again": [22, 2, 1, 1],
}


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"flips": True} | BOTH, {"classifier": "softmax"}],
    ids=["", "two layers, flips", "softmax"],
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, root, stops, changes):
    changes = RIDGE | changes
    trainer(tmp_path / "whole", root, **changes).run()
    assert run_with_stops(tmp_path / "run", root, stops, **changes) == len(stops)
    assert is_same(ending(tmp_path / "run"), ending(tmp_path / "whole"))


@pytest.mark.parametrize("how", [{"augment": True}, {"crops": {"padding": 3, "flip": 0}}], ids=str)
def test_passes_over_augmented_images(tmp_path, how):
    folder = write_cifar10(tmp_path)
    for i in range(1, 6):
        images = torch.randint(256, (4, 3072)).numpy()
        (folder / f"data_batch_{i}").write_bytes(python2_batch(images, [0, 2, 1, 1], b"labels"))
    options = {"preset": "softkrotov-c8-k5-p2-t1:triangle:max_4_2_1 bp", "dataset": "cifar10"}
    options |= {"limit": None, "neuron_factor": 1.0, "unsup_batch": 4}
    options |= RIDGE | how | {"probe_epochs": 3, "probe_batch": 8, "ridge": {}}
    run = trainer(tmp_path / "whole", tmp_path, **options)
    run.run()
    assert run.rows[-1]["epoch"] == 3
    assert is_finished(tmp_path / "whole")
    assert run_with_stops(tmp_path / "run", tmp_path, [7, 3, 2], **options) == 3
    assert is_same(ending(tmp_path / "run"), ending(tmp_path / "whole"))
    once = trainer(tmp_path / "once", tmp_path, **options | {"probe_epochs": 1})
    once.run()
    assert changed(snapshot(once.net), snapshot(run.net)) == {"head.2.weight", "head.2.bias"}


@pytest.mark.parametrize("cache_gib", [8.0, 0.0], ids=["cached", "not cached"])
@pytest.mark.parametrize("views", [{"flips": True}, {"shifts": 1}], ids=["flips", "shifts"])
def test_the_published_classifier_sees_them_as_well(tmp_path, root, cache_gib, views):
    changes = BOTH | views | {"cache_gib": cache_gib}
    run = trainer(tmp_path / "whole", root, **changes)
    summary = run.run()
    assert run.rows[-1]["phase"] == "probe"
    assert run.net.head[-1].in_features == run.net.readout.features
    assert load_run(tmp_path / "whole").evaluate(root)[1] == summary["test_accuracy"]
    done = run_with_stops(tmp_path / "run", root, [11, 5], **changes)
    assert done == 2
    assert is_same(ending(tmp_path / "run"), ending(tmp_path / "whole"))


def test_mirror_images_follow_the_images(root):
    images = load("mnist", "train", root=root, limit=7)
    both = images.mirrored()
    assert torch.equal(both.images[:7], images.images)
    assert torch.equal(both.images[7:], images.images.flip(-1))
    assert torch.equal(both.labels, images.labels.repeat(2))


def test_a_penalty_at_an_end_is_said(tmp_path, root):
    heard = Heard()
    trainer(tmp_path, root, heard, **RIDGE, ridge={"factors": [1e4, 1e5]}).run()
    said = "is the least of the 2 tried: others may be better (factors of the ridge classifier)"
    assert any(said in text for text in heard.said)


@pytest.mark.parametrize(("long", "said"), [(0, 1), (1 << 30, 0)])
def test_what_takes_a_while_is_said(tmp_path, root, monkeypatch, long, said):
    monkeypatch.setattr(solved_stage, "LONG", long)
    heard = Heard()
    given = RIDGE | {"probe_epochs": 2}
    run = trainer(tmp_path, root, heard, **given, crops={"padding": 1, "flip": 0})
    run.run()
    text = f"after these images the ridge classifier of {run.net.head[-1].in_features} features is"
    assert sum(text in line for line in heard.said) == said


def test_too_little_memory_is_said_before_features_are_computed(tmp_path, root, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    run = trainer(tmp_path, root, **RIDGE)
    with pytest.raises(ValueError, match=r"the ridge classifier of \d+ features from 160 images"):
        run.run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier": "svm"}, "classifier must be one of published, ridge, softmax; got 'svm'"),
        ({"ridge": {}}, "ridge must be None for classifier='published'"),
        ({"softmax": {}}, "softmax must be None for classifier='published'"),
        ({**RIDGE, "softmax": {}}, "softmax must be None for classifier='ridge'"),
        ({**SOFTMAX, "ridge": {}}, "ridge must be None for classifier='softmax'"),
        ({**SOFTMAX, "softmax": {"smoothing": 0}}, "smoothing must be positive and finite; got 0"),
        ({**SOFTMAX, "autocast": True}, "autocast must be False for classifier='softmax'"),
        ({**RIDGE, "ridge": {"alpha": 1}}, "ridge must hold .*penalty.*; got alpha"),
        ({**RIDGE, "ridge": {"form": "x"}}, "form must be one of"),
        ({**RIDGE, "autocast": True}, "autocast must be False for classifier='ridge'"),
        ({**RIDGE, "probe_epochs": 2}, "probe_epochs must be 1 for classifier='ridge'"),
        ({**RIDGE, "mode": "simultaneous"}, "classifier is for a classifier of layers that are"),
        ({**RIDGE, "preset": "3CnnCIFAR"}, "classifier is for a classifier of layers that are"),
        ({"features": {}, "preset": "3CnnCIFAR"}, "features is for a classifier of layers"),
        ({"flips": True, "mode": "simultaneous"}, "flips is for a classifier of layers"),
        ({"shifts": 1, "mode": "simultaneous"}, "shifts is for a classifier of layers"),
        ({"shifts": -1}, "shifts must be at least 0; got -1"),
        ({"shifts": 28}, "shifts must be less than the 28x28 pixels of an image; got 28"),
        (
            {**RIDGE, "preset": "4SoftHebbCnnCIFAR_HebbClassifier"},
            "learns by 'bp'; that of 4SoftHebbCnnCIFAR_HebbClassifier learns by 'supervised'",
        ),
        ({"features": {"layers": [3]}}, "layers must be among the 2 below the classifier"),
        ({"features": {"mirrored": True}, "flips": True}, "flips must be False for features mirr"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(tmp_path, root, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, root, **changes)


def test_flips_must_be_a_bool():
    with pytest.raises(TypeError, match="flips must be a bool; got 1"):
        RunConfig("DemoMNIST", "mnist", flips=1)
    with pytest.raises(
        TypeError, match=r"features must be a dict of grid, layers, mirrored, pool, .*; got 3"
    ):
        RunConfig("DemoMNIST", "mnist", features=3)


def test_wide_maps_take_fewer_images_at_once(tmp_path, root, monkeypatch):
    run = trainer(tmp_path, root, **BOTH)
    run.net.eval()
    x = load("mnist", "train", root=root, limit=4).batch(slice(None))[0]
    map_bytes = 4 * 5 * 28 * 28  # of the 5 neurons of the first layer
    for images in (1, 3, 50):
        monkeypatch.setattr(features, "HOST_MAPS_BYTES", features.TEMPORARIES * map_bytes * images)
        assert images_at_once(run.net.blocks, x, 20) == min(20, images)
        assert images_at_once([run.net.readout], x, 20) == min(20, images)
        assert images_at_once([run.net], x, 20) == min(20, images)
    monkeypatch.setattr(features, "HOST_MAPS_BYTES", 1)
    assert images_at_once(run.net.blocks, x, 20) == 1
    assert images_at_once(run.net.head, x, 20) == 20
    assert not any(m._forward_hooks for m in run.net.modules())
