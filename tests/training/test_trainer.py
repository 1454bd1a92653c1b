from __future__ import annotations

import csv
import gc
import json
import math
import os
import warnings
import weakref
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from softhebb_fast.data import load, permutation, sources
from softhebb_fast.models import build
from softhebb_fast.presets import Preset, get_preset
from softhebb_fast.training import checkpoint, inputs, loop, metrics
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import load_run
from softhebb_fast.training.stage import BatchSource
from softhebb_fast.training.supervised_stage import SupervisedStage
from softhebb_fast.training.trainer import Trainer
from tests.data.writers import counted, python2_batch, write_cifar10, write_stl10
from tests.tiny import CONFIG, changed, edit_config, snapshot, trainer, write_mnist_subset
from tests.tolerances import assert_close, literal

# products of other batch sizes may round differently, and each step magnifies that
TOL = 1e-3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


class Watcher(Reporter):
    """Keeps the network's state at the beginning of every stretch, and how far each came."""

    def __init__(self) -> None:
        self.trainer = None
        self.states: list[tuple[str, dict]] = []
        self.totals: list[int] = []
        self.done: list[int] = []

    def begin(self, title, total, done=0):
        self.states.append((title, snapshot(self.trainer.net)))
        self.totals.append(total)
        self.done.append(done)

    def advance(self, count):
        self.done[-1] += count


def watched(out, root, **changes) -> tuple[Trainer, Watcher]:
    watcher = Watcher()
    watcher.trainer = trainer(out, root, watcher, **changes)
    watcher.trainer.run()
    watcher.states.append(("end", snapshot(watcher.trainer.net)))
    return watcher.trainer, watcher


def own(block: int) -> set[str]:
    """The entries that a convolution block changes when it learns."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    names = ("layer.weight", *(f"norm.{name}" for name in statistics))
    return {f"blocks.{block}.{name}" for name in names}


HEAD = {"head.2.weight", "head.2.bias"}
CONV = "softkrotov-c16-k7-p3-t3-lr0.2-lp0.5:triangle_1:avg_4_2_1 BP:dropout_0.5"


def test_successive_training_changes_one_block_at_a_time(tmp_path, root):
    run, watcher = watched(tmp_path, root)
    assert [title for title, _ in watcher.states] == [
        "layer 1",
        "features of the train images",
        "layer 2",
        "features of the train images",
        "features of the test images",
        "classifier",
        "end",
    ]
    states = [state for _, state in watcher.states]
    assert changed(states[0], states[1]) == own(0)
    assert changed(states[1], states[2]) == set()
    assert changed(states[2], states[3]) == own(1)
    assert changed(states[3], states[5]) == set()
    assert changed(states[5], states[6]) == HEAD
    assert watcher.done == watcher.totals == [160, 160, 160, 160, 160, 320]
    assert not any(part.training for part in run.net.modules())


def test_batch_norms_above_the_layer_that_learns_stay_as_they_are(tmp_path, root):
    _, watcher = watched(tmp_path, root)
    above = watcher.states[2][1]
    assert above["blocks.0.norm.num_batches_tracked"] == 10
    assert above["blocks.1.norm.num_batches_tracked"] == 0
    assert not above["blocks.1.norm.running_mean"].any()
    assert (above["blocks.1.norm.running_var"] == 1).all()


def test_consecutive_training_changes_all_blocks_in_one_pass(tmp_path, root):
    run, watcher = watched(tmp_path, root, mode="consecutive")
    titles = [title for title, _ in watcher.states]
    assert titles[0] == "layer 1, 2"
    assert titles[-2:] == ["classifier", "end"]
    states = [state for _, state in watcher.states]
    assert changed(states[0], states[1]) == own(0) | own(1)
    assert changed(states[1], states[-1]) == HEAD
    assert [row["layer"] for row in run.rows[:4]] == [1, 2, 1, 2]


def test_simultaneous_training_changes_all_at_once(tmp_path, root):
    run, watcher = watched(tmp_path, root, mode="simultaneous")
    assert [title for title, _ in watcher.states] == ["all layers", "end"]
    assert changed(watcher.states[0][1], watcher.states[1][1]) == own(0) | own(1) | HEAD
    assert {row["phase"] for row in run.rows} == {"simultaneous"}
    assert int(run.net.blocks[1].norm.num_batches_tracked) == 10


def test_every_epoch_has_an_order_of_its_own(tmp_path, root, monkeypatch):
    drawn = []

    def spy(n, seed, epoch):
        drawn.append((n, seed, epoch))
        return permutation(n, seed, epoch)

    monkeypatch.setattr(loop, "permutation", spy)
    watched(tmp_path, root, seed=4)
    assert drawn == [(160, 4, 0), (160, 4, 0), (160, 4, 0), (160, 4, 1)]


def test_what_is_recorded(tmp_path, root):
    run, _ = watched(tmp_path, root)
    hebbian = [row for row in run.rows if row["phase"] == "hebbian"]
    for layer in (1, 2):
        epochs = [row["epoch"] for row in hebbian if row["layer"] == layer]
        assert epochs == literal([0.1 * i for i in range(11)])
    assert run.rows[: len(hebbian)] == hebbian
    start, first, last = run.rows[len(hebbian) :]
    assert (first["phase"], first["epoch"], last["epoch"]) == ("probe", 1, 2)
    assert set(start) == {"phase", "epoch", "seconds", "test_loss", "test_accuracy"}
    assert start["epoch"] == 0
    assert start["test_loss"] > last["test_loss"]
    assert 0 < last["train_loss"] < first["train_loss"]
    seconds = [row["seconds"] for row in run.rows]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert metrics.read_csv(tmp_path) == [
        {k: v if isinstance(v, str) else float(f"{v:.7g}") for k, v in row.items()}
        for row in run.rows
    ]
    assert sorted(os.listdir(tmp_path)) == [
        *("checkpoint.pt", "config.json", "metrics.csv", "neurons.csv")
    ]


def test_what_is_recorded_of_neurons(tmp_path, root):
    run, _ = watched(tmp_path, root)
    rows = list(csv.DictReader((tmp_path / metrics.NEURONS_FILE).open()))
    sizes = [len(block.layer.weight) for block in run.net.blocks]
    assert [r["layer"] for r in rows] == ["1"] * sizes[0] + ["2"] * sizes[1]
    assert {r["epoch"] for r in rows} == {"1"}
    for layer, block in enumerate(run.net.blocks, 1):
        own = [r for r in rows if r["layer"] == str(layer)]
        assert [float(r["norm"]) for r in own] == literal(block.layer.norms().tolist())
        assert all(r["start_norm"] != r["norm"] for r in own[:1])
        wins = [int(r["wins"]) for r in own]
        share = [w / sum(wins) for w in wins if w]
        entropy = -sum(p * math.log2(p) for p in share)
        last = [row for row in run.rows if row.get("layer") == layer][-1]
        assert last["winner_entropy"] == literal(entropy)
    assert load_run(tmp_path).neurons == run.neurons


def test_neurons_whose_start_is_not_known(tmp_path):
    neurons = {}
    row = {"layer": 2, "epoch": 0.5, "neurons": {"wins": [3, 0], "norm": [1.0, math.nan]}}
    assert metrics.keep_neurons(neurons, row) == {"layer": 2, "epoch": 0.5}
    metrics.write_neurons(tmp_path, neurons)
    lines = (tmp_path / metrics.NEURONS_FILE).read_text().splitlines()
    assert lines[1:] == ["2,0,0.5,3,1.0,", "2,1,0.5,0,nan,"]


def test_a_run_can_be_opened_when_it_is_done(tmp_path, root):
    run, _ = watched(tmp_path, root)
    opened = load_run(tmp_path)
    assert opened.config == RunConfig(**CONFIG).resolved()
    assert changed(snapshot(run.net), snapshot(opened.net)) == set()
    loss, accuracy = opened.evaluate()
    summary = run.summary()
    assert (loss, accuracy) == literal((summary["test_loss"], summary["test_accuracy"]))
    assert [row["layer"] for row in summary["layers"]] == [1, 2]
    assert json.loads((tmp_path / "config.json").read_text())["root"] == str(root)
    again = Trainer.resume(tmp_path)
    assert again.run() | {"seconds": 0} == summary | {"seconds": 0}


def test_without_epochs_the_weights_stay_random(tmp_path, root):
    run, watcher = watched(tmp_path, root, unsup_epochs=0, seed=3)
    torch.manual_seed(3)
    start = build(run.config.network(), (1, 28, 28), 10)
    assert changed(snapshot(start), snapshot(run.net)) == HEAD
    assert not any(title.startswith("layer") for title, _ in watcher.states)
    assert run.summary()["layers"] == []


def test_one_seed_gives_one_network(tmp_path, root):
    first, again, other = (
        watched(tmp_path / name, root, seed=seed)[0]
        for name, seed in zip("abc", (0, 0, 1), strict=True)
    )
    assert changed(snapshot(first.net), snapshot(again.net)) == set()
    assert changed(snapshot(first.net), snapshot(other.net)) >= HEAD | {
        "blocks.0.layer.weight",
        "blocks.1.layer.weight",
    }
    without = [
        [{k: v for k, v in r.items() if k != "seconds"} for r in run.rows] for run in (first, again)
    ]
    assert without[0] == without[1]


def test_features_that_do_not_fit_are_computed_again(tmp_path, root):
    class Listener(Watcher):
        def say(self, text):
            self.states.append((text, {}))

    cached, _ = watched(tmp_path / "cached", root, probe_epochs=3)
    listener = Listener()
    listener.trainer = trainer(tmp_path / "again", root, listener, cache_gib=0, probe_epochs=3)
    listener.trainer.run()
    said = [text for text, state in listener.states if not state]
    assert len(said) == 3
    assert "the features of the test images would take" in said[2]
    assert "more than cache_gib=0" in said[2]
    for name, value in snapshot(cached.net).items():
        assert_close(listener.trainer.net.state_dict()[name], value, TOL)
    summary, other = cached.summary(), listener.trainer.summary()
    assert other["test_accuracy"] == summary["test_accuracy"]
    # evaluated at the first, the last and every tenth epoch, because it costs a pass
    judged = [row["epoch"] for row in listener.trainer.rows if "test_loss" in row]
    assert judged == [1, 3]
    assert [row["epoch"] for row in cached.rows if "test_loss" in row] == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_features_may_be_kept_in_16_bits(tmp_path, root, dtype):
    run, watcher = watched(tmp_path, root, cache_dtype=dtype)
    assert changed(watcher.states[-2][1], watcher.states[-1][1]) == HEAD
    assert run.summary()["test_accuracy"] > 25


def test_a_classifier_that_learns_by_the_hebbian_rule(tmp_path, root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run, watcher = watched(
            tmp_path,
            root,
            preset="4SoftHebbCnnCIFAR_HebbClassifier",
            probe_epochs=20,
            probe_batch=4,
        )
    assert changed(watcher.states[-2][1], watcher.states[-1][1]) == {"head.2.weight"}
    probe = [row for row in run.rows if row["phase"] == "probe"]
    assert probe[1]["train_accuracy"] < 30
    assert probe[-1]["train_accuracy"] > 60


def test_backpropagation_end_to_end(tmp_path, root):
    run, watcher = watched(tmp_path, root, preset="3CnnCIFAR", probe_epochs=3, mode="consecutive")
    # each test runs the whole network
    assert [row["epoch"] for row in run.rows if "test_loss" in row] == [1, 3]
    assert [title for title, _ in watcher.states] == ["classifier", "end"]
    assert changed(watcher.states[0][1], watcher.states[1][1]) == own(0) | own(1) | HEAD
    assert run.summary()["layers"] == []


def test_a_block_by_backpropagation_above_a_hebbian_one(tmp_path, root):
    net = "softkrotov-c5-k5-p2-t1:triangle:max_4_2_1 BP-c6-k3:relu:max_2_2_0 BP"
    _, watcher = watched(tmp_path, root, preset=net, neuron_factor=1.0)
    states = dict(watcher.states)
    assert changed(states["layer 1"], states["layer 2"]) == own(0)
    assert changed(states["layer 2"], states["classifier"]) == own(1)
    assert changed(states["classifier"], states["end"]) == HEAD


def test_backpropagation_layer_by_layer(tmp_path, root):
    run, watcher = watched(tmp_path, root, preset="3CnnCIFAR", probe_epochs=3)
    states = dict(watcher.states)
    assert [title for title, _ in watcher.states if "features" not in title] == [
        "layer 1",
        "layer 2",
        "classifier",
        "end",
    ]
    assert changed(states["layer 1"], states["layer 2"]) == own(0)
    assert changed(states["layer 2"], states["classifier"]) == own(1)
    assert changed(states["classifier"], states["end"]) == HEAD
    tested = [(row["phase"], row["epoch"]) for row in run.rows if "test_loss" in row]
    assert tested == [(p, e) for p in ("layer 1", "layer 2") for e in (1, 3)] + [
        ("probe", e) for e in (0, 1, 2, 3)
    ]
    assert run.summary()["test_accuracy"] == run.rows[-1]["test_accuracy"]


def test_what_is_above_a_layer_that_learns_by_backpropagation_is_frozen():
    torch.manual_seed(0)
    data = counted(8, (1, 8, 8))
    net = build(get_preset("3CnnCIFAR", neuron_factor=0.05), data.image_shape, 8)
    stage = SupervisedStage(
        net, BatchSource(data, []), BatchSource(data, []), data, 0, 1, 4, 8, alone=True
    )
    assert [part.training for part in (*net.blocks, net.head, net.head[1])] == [True] + 3 * [False]
    stage.step(0, *data.batch(slice(0, 4)))
    assert net.blocks[0].layer.weight.grad is not None
    assert net.blocks[1].layer.weight.grad is net.head[-1].weight.grad is None


def test_unsupervised_accuracy_of_a_perceptron(tmp_path, root):
    run, _ = watched(tmp_path, root, preset="2SoftMlpMNIST", neuron_factor=0.01)
    summary = run.summary()
    assert 10 < summary["neuron_accuracy"] <= 100
    assert "neuron_accuracy" not in watched(tmp_path / "b", root)[0].summary()


def test_augmented_images(tmp_path):
    folder = write_cifar10(tmp_path)
    drawn = np.random.default_rng(0)
    for file in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        images = drawn.integers(256, size=(2, 3072))
        (folder / file).write_bytes(python2_batch(images, [0, 2], b"labels"))
    options = {
        "preset": CONV,
        "neuron_factor": 1.0,
        "dataset": "cifar10",
        "limit": None,
        "unsup_batch": 2,
    }
    run, watcher = watched(tmp_path / "run", tmp_path, augment=True, **options)
    assert [title for title, _ in watcher.states] == [
        "layer 1",
        "features of the test images",
        "classifier",
        "end",
    ]
    plain, _ = watched(tmp_path / "plain", tmp_path, augment=False, **options)
    assert changed(snapshot(run.net), snapshot(plain.net)) == HEAD
    again, _ = watched(tmp_path / "again", tmp_path, augment=True, **options)
    assert changed(snapshot(run.net), snapshot(again.net)) == set()


def test_an_augmentation_that_is_not_defined_is_refused_before_training(tmp_path, root):
    with pytest.raises(ValueError, match="augmentation is Gaussian noise"):
        trainer(tmp_path / "run", root, augment=True)
    assert not (tmp_path / "run").exists()


def test_unlabelled_images_teach_the_hebbian_layers(tmp_path):
    write_stl10(tmp_path)
    folder = tmp_path / "stl10_binary"
    for part in ("X", "y"):
        (folder / f"test_{part}.bin").write_bytes((folder / f"train_{part}.bin").read_bytes())
    unlabelled = folder / "unlabeled_X.bin"
    unlabelled.write_bytes(unlabelled.read_bytes()[: 2 * 3 * 96 * 96])
    options = {"preset": CONV, "neuron_factor": 1.0, "dataset": "stl10", "unsup_batch": 2}
    run, _ = watched(tmp_path / "run", tmp_path, **options)
    assert run.unsup_set.split == "unlabeled"
    assert (len(run.unsup_set), len(run.train_set)) == (2, 4)
    assert int(run.net.blocks[0].norm.num_batches_tracked) == 1
    assert run.config.augment
    assert (
        trainer(tmp_path / "none", tmp_path, unsup_epochs=0, **options).unsup_set.split == "train"
    )


def hebbian_stage(schedule: str, kind: str = "3SoftHebbCnnCIFAR", epochs: int = 2) -> HebbianStage:
    preset = get_preset(kind, neuron_factor=0.05)
    first, *rest = preset.layers
    preset = Preset("tried", (replace(first, schedule=schedule, lr=0.1), *rest))
    data = counted(6, (1, 8, 8))
    net = build(preset, data.image_shape, 10)
    return HebbianStage(net, BatchSource(data, []), data, [0], epochs, batch_size=3)


def decaying(speed: float, divisor: float, steps: int) -> list[float]:
    """The rates of the published recurrence, from 0.1 to 0.1 / divisor."""
    end = math.exp(-speed)
    floor = (0.1 / divisor - 0.1 * end) / (1 - end)
    rates = [0.1]
    for _ in range(steps):
        rates.append((rates[-1] - floor) * math.exp(-speed / steps) + floor)
    return rates


def test_only_the_block_that_learns_is_in_training_mode():
    stage = hebbian_stage("norm")
    assert stage.net.blocks[0].layer.training
    assert stage.net.blocks[0].norm.training
    others = (stage.net, stage.net.head, stage.net.blocks[1], *stage.net.blocks[1].modules())
    assert not any(part.training for part in others)


@pytest.mark.parametrize(
    ("schedule", "kind", "rates"),
    [
        ("norm", "3SoftHebbCnnCIFAR", [0.1] * 5),
        ("constant", "3SoftHebbCnnCIFAR", [0.1] * 5),
        ("linear", "3SoftHebbCnnCIFAR", [0.1, 0.075, 0.05, 0.025, 0.0]),
        ("exponential", "3SoftHebbCnnCIFAR", decaying(7, 96, 4)),
        ("exponential", "2SoftMlpMNIST", decaying(0.4, 100, 4)),
    ],
)
def test_rates_reach_the_layer(schedule, kind, rates):
    stage, found = hebbian_stage(schedule, kind), []
    x, labels = stage.inputs.source.batch(slice(0, 3))
    for number in range(5):
        stage.step(number, x, labels)
        found.append(stage.net.blocks[0].layer.lr)
    assert found == literal(rates)
    published = get_preset(kind).layers[0].lr_power
    assert stage.net.blocks[0].layer.lr_power == (published if schedule == "norm" else 0)


def test_decay_lasts_as_long_as_the_stage(tmp_path, root):
    class Rates(Reporter):
        def __init__(self):
            self.found = []

        def advance(self, count):
            self.found.append(run.net.blocks[0].layer.lr)

    rates = Rates()
    options = {"preset": "2HardCnnCIFA_speed_linearDecay", "limit": 96, "unsup_epochs": 2}
    run = trainer(tmp_path, root, rates, unsup_batch=32, **options)
    run.run()
    assert rates.found[:6] == literal([0.025 * (1 - n / 6) for n in range(6)])


def test_the_classifiers_rate_is_halved_as_published():
    torch.manual_seed(0)
    data = counted(8, (1, 8, 8))
    net = build(get_preset("3SoftHebbCnnCIFAR", neuron_factor=0.05), data.image_shape, 8)
    inputs = BatchSource(data, list(net.blocks))
    stage = SupervisedStage(net, inputs, inputs, data, 2, epochs=20, batch_size=4, test_batch=8)
    x, labels = data.batch(slice(0, 4))
    rates = []
    for epoch in range(1, 21):
        rates.append(stage.optimizer.param_groups[0]["lr"])
        stage.step(0, x, labels)
        stage.end_epoch(epoch)
    assert rates == [1e-3] * 10 + [5e-4] * 5 + [2.5e-4] * 5


# On the first 2,000 images and seeds 0, 1, 2: mean norm 1.01 to 1.02 and an accuracy of 77.4 to
# 78.3 % without labels, against 29.4 to 32.6 % of the random weights.
def test_a_perceptron_learns_digits_without_labels(tmp_path):
    options = {
        "preset": "2SoftMlpMNIST",
        "neuron_factor": 0.05,
        "limit": 2000,
        "unsup_batch": 8,
        "probe_epochs": 1,
    }
    learned = trainer(tmp_path / "a", sources.EMBEDDED, unsup_epochs=4, **options).run()
    random = trainer(tmp_path / "b", sources.EMBEDDED, unsup_epochs=0, **options).run()
    assert learned["neuron_accuracy"] > 70
    assert random["neuron_accuracy"] < 45
    assert 0.95 < learned["layers"][0]["norm_mean"] < 1.2


# As above: mean norm 1.00 to 1.01, accuracy 88.6 to 90.8 %; random filters give 85.4 to 91.2 %, so
# that on so few digits the accuracy shows that nothing is lost, and the norms that it learns.
def test_a_small_net_learns_digits(tmp_path):
    summary = trainer(
        tmp_path,
        sources.EMBEDDED,
        preset=CONV,
        neuron_factor=1.0,
        limit=2000,
        unsup_batch=8,
        probe_epochs=10,
    ).run()
    assert summary["test_accuracy"] > 82
    layer = summary["layers"][0]
    assert 0.95 < layer["norm_mean"] < 1.3
    assert layer["r1"] >= 12
    assert layer["distinct_filters"] == 16


def test_a_folder_that_holds_a_run_is_refused(tmp_path, root):
    watched(tmp_path, root)
    before = {file: (tmp_path / file).read_bytes() for file in os.listdir(tmp_path)}
    with pytest.raises(ValueError, match=r"out already holds a run: .*resume it or choose another"):
        trainer(tmp_path, root)
    assert {file: (tmp_path / file).read_bytes() for file in os.listdir(tmp_path)} == before


def test_a_configuration_that_was_edited_is_refused(tmp_path, root):
    watched(tmp_path, root)
    path = tmp_path / "config.json"
    whole = path.read_text()
    path.write_text(whole.replace('"seed": 0', '"seed": 5'))
    for use in (Trainer.resume, load_run):
        with pytest.raises(ValueError, match=r"config\.json is damaged: .* by its digest\. Put a"):
            use(tmp_path)
    path.write_text(whole)
    edit_config(tmp_path, lambda content: content["run"].update(seed=5))
    for use in (Trainer.resume, load_run):
        with pytest.raises(ValueError, match=r"another configuration \(seed: 0 there, 5 here"):
            use(tmp_path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, root):
    watched(tmp_path / "a", root)
    trainer(tmp_path / "b", root, limit=100)
    os.replace(tmp_path / "a" / checkpoint.FILE, tmp_path / "b" / checkpoint.FILE)
    with pytest.raises(ValueError, match=r"another configuration \(limit: 160 there, 100 here"):
        Trainer.resume(tmp_path / "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ('{"run": {}, "root": null}', "is damaged.*preset"),
        ('{"run": {"preset": "DemoMNIST", "dataset": "mnist", "lr": 1}, "root": null}', "'lr'"),
        ('{"run": {"preset": "DemoMNIST", "dataset": 3}, "root": null}', "dataset must be a str"),
    ],
)
def test_a_damaged_configuration(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(
        ValueError, match=rf"config\.json {message}|config\.json is damaged.*{message}"
    ):
        Trainer.resume(tmp_path)


def test_a_folder_without_a_run(tmp_path):
    for use in (Trainer.resume, load_run):
        with pytest.raises(FileNotFoundError, match="there is no run in"):
            use(tmp_path)


@pytest.mark.parametrize("place", ["/proc/softhebb_fast", "file/below"])
def test_a_folder_that_cannot_be_written(tmp_path, root, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="out must be a folder that can be written"):
        trainer(tmp_path / place, root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "emnist"}, "name must be one of mnist"),
        ({"device": "abacus"}, "device must be usable here; got 'abacus'"),
        ({"preset": "DemoMNST"}, "did you mean DemoMNIST"),
        ({"init": "nothing"}, "init must be one of"),
    ],
)
def test_bad_configurations_write_nothing(tmp_path, root, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "run", root, **changes)
    assert not (tmp_path / "run").exists()


def test_images_that_are_too_small(tmp_path, root):
    with pytest.raises(ValueError, match="image_shape is too small"):
        trainer(tmp_path / "run", root, preset="soft-c4-k29 BP", neuron_factor=1.0)
    assert load("mnist", root=root).image_shape == (1, 28, 28)


def test_features_take_the_place_of_those_below(tmp_path, root, monkeypatch):
    """With the same bits as if they were computed from the images."""
    kept, cache = [], inputs.cache_features

    def watched_cache(source, blocks, dtype, on_batch, *, in_place=False, ranks):
        found = cache(source, blocks, dtype, on_batch, in_place=in_place)
        kept.append((in_place, found.images.data_ptr(), found.images.clone()))
        return found

    monkeypatch.setattr(inputs, "cache_features", watched_cache)
    run = trainer(tmp_path, root)
    run.run()
    (fresh, place, _), (reused, same_place, features), (test, _, _) = kept
    assert (fresh, reused, test) == (False, True, False)
    assert place == same_place
    from_images = cache(run.train_set, list(run.net.eval().blocks))
    assert torch.equal(features, from_images.images)


@pytest.mark.parametrize("mode", ["successive", "consecutive", "simultaneous"])
@pytest.mark.parametrize("stops", [False, True])
def test_a_run_that_is_over_leaves_no_features_behind(tmp_path, root, monkeypatch, mode, stops):
    """They may be most of the memory: the next run must not wait for the garbage collector."""
    left, cache = [], inputs.cache_features

    def watched_cache(*arguments, **options):
        found = cache(*arguments, **options)
        left.append(weakref.ref(found))
        return found

    monkeypatch.setattr(inputs, "cache_features", watched_cache)
    # With its first optimizer torch imports its compiler, and an error caught there holds frames.
    torch.optim.Adam([torch.zeros(1)])
    run = trainer(tmp_path, root, mode=mode)
    left.append(weakref.ref(run))
    gc.collect()
    gc.disable()
    try:
        run.stop_requested = stops
        with pytest.raises(loop.Interrupted) if stops else nullcontext():
            run.run()
        del run
        assert len(left) > 1 or stops or mode == "simultaneous"
        assert not [found() for found in left if found() is not None]
    finally:
        gc.enable()


def test_narrow_features_are_computed_from_the_images(tmp_path, root, monkeypatch):
    seen, cache = [], inputs.cache_features

    def watched_cache(*arguments, in_place=False, ranks):
        seen.append(in_place)
        return cache(*arguments, in_place=in_place)

    monkeypatch.setattr(inputs, "cache_features", watched_cache)
    trainer(tmp_path, root, cache_dtype="bfloat16").run()
    assert seen == [False, False, False]
