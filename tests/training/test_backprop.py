"""Ordinary networks by backpropagation: runs, their exact resume, and what breaks a symmetry."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from softhebb_fast.optim import Milestones
from softhebb_fast.training import metrics, runs
from softhebb_fast.training.backprop import BackpropTrainer
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.run_folder import load_run, read_config
from softhebb_fast.training.symmetry import SymmetryRecorder
from tests.tiny import write_mnist_subset
from tests.tolerances import literal
from tests.training.test_resume import StopAt, ending, is_same

PERCEPTRON = {"network": "perceptron", "options": {"hidden": [20]}, "dataset": "mnist"}
TINY = {**PERCEPTRON, "limit": 96, "batch": 16, "epochs": 2}
CONST = {"network": "constnet", "options": {"widen": 1}, "dataset": "mnist", "init": "constant"}
CONST |= {"limit": 24, "batch": 8, "epochs": 2, "optimizer": "sgd", "lr": 0.03, "momentum": 0.9}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


def made(out: Path, root: Path, reporter=None, **changes) -> BackpropTrainer:
    return runs.begin(BackpropConfig(**TINY | changes), out, root=root, reporter=reporter)


EVERYTHING = {
    "options": {"hidden": [20], "dropout": 0.3},
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 1e-3,
    "warm_up": 1,
    "milestones": [1],
    "augment": "reflect",
    "gradient_noise": 1e-3,
    "weight_noise": 1e-3,
    "records": 3,
    "symmetry_steps": [0, 1, 5, 9],
}


@pytest.mark.parametrize(
    ("changes", "stops"),
    [
        ({"init": "zero_bias", "loss": "sum"}, [2, 3, 4]),
        (EVERYTHING, [1, 3, 5]),
        ({**CONST, "statistics": "batch"}, [2, 2]),
    ],
    ids=["adam", "everything", "constnet"],
)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, root, changes, stops):
    made(tmp_path / "whole", root, **changes).run()
    run = None
    for batch in [*stops, 0]:
        reporter = StopAt(batch)
        run = runs.resume(tmp_path / "run", reporter=reporter) if run else None
        run = run or made(tmp_path / "run", root, reporter, **changes)
        reporter.trainer = run
        if batch:
            with pytest.raises(Interrupted):
                run.run()
    run.run()
    assert is_same(ending(tmp_path / "run"), ending(tmp_path / "whole"))
    parts = [(tmp_path / name / "symmetry.csv") for name in ("run", "whole")]
    if changes.get("symmetry_steps"):
        assert parts[0].read_bytes() == parts[1].read_bytes()
    else:
        assert not parts[0].exists()


def test_a_run_is_plain_torch(tmp_path, root):
    """The same steps by hand end with the same bits."""
    run = made(tmp_path, root, epochs=1, loss="sum", init="zero_bias", seed=3)
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ELU(), nn.Linear(20, 10))
    with torch.no_grad():
        for layer in (net[1], net[3]):
            layer.weight.zero_()
            layer.bias.copy_(torch.randn(len(layer.bias)))
    assert is_same(net.state_dict(), run.net.state_dict())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for index in run._order(96, 0).split(16):
        x, labels = run.train_set.batch(index)
        loss = nn.functional.cross_entropy(net(x), labels, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.run()
    assert is_same(net.state_dict(), run.net.state_dict())


def test_what_is_recorded(tmp_path, root):
    run = made(tmp_path, root, records=3, test_every=5, epochs=3, symmetry_steps=[0, 4, 18])
    summary = run.run()
    rows = metrics.read_csv(tmp_path)
    assert [row["epoch"] for row in rows] == literal([i / 3 for i in range(1, 10)])
    assert [row["epoch"] for row in rows if "test_accuracy" in row] == [1, 3]
    assert summary["test_accuracy"] == run.rows[-1]["test_accuracy"]
    found = load_run(tmp_path)
    assert found.evaluate() == (run.rows[-1]["test_loss"], run.rows[-1]["test_accuracy"])
    with open(tmp_path / "symmetry.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [(row["step"], row["weight"]) for row in written] == [
        (step, weight) for step in ("0", "4", "18") for weight in ("1.weight", "3.weight")
    ]
    assert [row["gradient"] != "" for row in written] == [False, False] + 4 * [True]
    assert [row["change_rank"] == "0" for row in written] == [True, True] + 4 * [False]
    assert len(found.symmetry) == 6


def test_images_and_their_order(tmp_path, root):
    whole = made(tmp_path / "a", root, limit=None, images=100)
    assert len(whole.train_set) == 100
    other = made(tmp_path / "b", root, limit=None, images=100, seed=1)
    assert not torch.equal(whole.train_set.images, other.train_set.images)
    assert len(whole.test_set) == 300
    first = whole._order(100, 0)
    assert not torch.equal(first, whole._order(100, 1))
    fixed = made(tmp_path / "c", root, limit=None, images=100, reshuffle=False)
    assert torch.equal(first, fixed._order(100, 1))
    with pytest.raises(ValueError, match="images must be at most 300"):
        made(tmp_path / "d", root, limit=None, images=301)


def test_normalised_and_tested_with_the_statistics_of_the_batch(tmp_path, root):
    options = {**CONST, "normalise": [[0.1307], [0.3081]]}
    run = made(tmp_path, root, **options)
    pixels = run.train_set.images[:4].float() / 255
    torch.testing.assert_close(run.train_set.batch(slice(0, 4))[0], (pixels - 0.1307) / 0.3081)
    net, x = run.net.eval(), run.train_set.batch(slice(0, 8))[0]
    nn.init.normal_(net[-1].weight)
    net[1].norm.running_mean.fill_(3.0)
    running = net(x)
    config = BackpropConfig(**TINY | options | {"statistics": "batch"})
    with config.testing(net):
        batch = net(x)
    assert torch.equal(net(x), running)
    kept = net[1].norm.running_mean.clone()
    assert torch.equal(kept, torch.full((16,), 3.0))
    torch.testing.assert_close(net.train()(x), batch)


BREAKERS = {
    "none": {},
    "dropout": {"options": {"widen": 1, "dropout": 0.01}},
    "weight noise": {"weight_noise": 1e-7},
    "gradient noise": {"gradient_noise": 1e-7},
}


@pytest.mark.parametrize("breaker", BREAKERS)
def test_equal_channels_stay_equal_unless_something_parts_them(tmp_path, root, breaker):
    run = made(tmp_path, root, **{**CONST, **BREAKERS[breaker], "symmetry_steps": [6]})
    run.run()
    deviations = [row["deviation"] for row in run.symmetry.rows[:-1]]  # all but the head
    assert len(deviations) == 15
    parted = [deviation > 0 for deviation in deviations]
    assert parted == [breaker != "none"] * 15
    assert max(row["change_rank"] for row in run.symmetry.rows) > 0


@pytest.mark.parametrize("start", ["zeros", "zero_bias"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_random_biases_part_what_zeros_keep_together(tmp_path, root, start, optimizer):
    """And of L layers the last learns first, the first at step L."""
    options = {"options": {"hidden": [20, 20, 20]}, "init": start, "optimizer": optimizer}
    run = made(tmp_path, root, **options, symmetry_steps=[1, 2, 3, 4, 5])
    run.run()
    rows = run.symmetry.rows
    names = list(dict.fromkeys(row["weight"] for row in rows))
    first = {
        name: next((r["step"] for r in rows if r["weight"] == name and r["gradient"] != 0), None)
        for name in names
    }
    hidden = [row["deviation"] for row in rows if row["weight"] == names[0]]
    if start == "zeros":
        assert list(first.values()) == [None] * 4
        assert not any(hidden)
    else:
        assert list(first.values()) == [4, 3, 2, 1]
        assert [deviation > 0 for deviation in hidden] == [False] * 3 + [True] * 2


def test_a_recorder_in_a_loop_of_ones_own():
    model = nn.Linear(3, 4)
    recorder = SymmetryRecorder(model, (0, 10, 20))
    recorder.record(-1, 0)
    for step in range(8, 24, 8):
        recorder.record(step - 8, step)
    assert [row["step"] for row in recorder.rows] == [0, 16]


def test_rates():
    rate = Milestones(0.1, (10, 20), 0.5, warm_up=4)
    found = [rate(step) for step in (0, 3, 4, 9, 10, 20)]
    assert found == literal([0.025, 0.1, 0.1, 0.1, 0.05, 0.025])
    assert Milestones(0.1)(0) == 0.1


def test_configurations_survive_json(tmp_path, root):
    config = BackpropConfig(**TINY | EVERYTHING | {"normalise": [[0.1], [0.2]]})
    assert BackpropConfig.from_dict(config.to_dict()) == config
    made(tmp_path, root, **EVERYTHING)
    read, _ = read_config(tmp_path)
    assert read == BackpropConfig(**TINY | EVERYTHING)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"network": "net"}, ValueError, "network must be one of perceptron"),
        ({"dataset": 3}, TypeError, "dataset must be a string; got 3"),
        ({"optimizer": "lion"}, ValueError, r"optimizer must be one of \('adam', 'sgd'\)"),
        ({"augment": "zeros"}, ValueError, "augment must be one of"),
        ({"lr": "high"}, TypeError, "lr must be a number; got 'high'"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1; got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0; got -1"),
        ({"deterministic": 1}, TypeError, "deterministic must be a bool; got 1"),
        ({"init": torch.ones}, TypeError, "init must be of plain values"),
        ({"symmetry_steps": [1.5]}, TypeError, "symmetry_steps must be a whole number"),
        ({"symmetry_steps": 5}, TypeError, "symmetry_steps must be whole numbers; got 5"),
        ({"network": ["net"]}, ValueError, r"network must be one of .*; got \['net'\]"),
        ({"options": 3}, TypeError, "options must be a dict; got 3"),
        ({"device": 3}, TypeError, "device must be a string; got 3"),
        ({"milestones": "12"}, TypeError, "milestones must be whole numbers; got '12'"),
        ({"milestones": [-1]}, ValueError, "milestones must be at least 0; got -1"),
        ({"normalise": 3}, TypeError, r"normalise must be \[means, deviations\] .*; got 3"),
        ({"normalise": [[0.1]]}, TypeError, r"normalise must be \[means, deviations\]"),
        ({"normalise": [["a"], [1.0]]}, TypeError, "normalise must be a number; got 'a'"),
        ({"normalise": [[0.1], [0.0]]}, ValueError, "normalise must have positive deviations"),
    ],
)
def test_mistakes(changes, error, message):
    with pytest.raises(error, match=message):
        BackpropConfig(**TINY | changes)


@pytest.mark.parametrize(
    ("model", "steps", "message"),
    [
        (3, (1,), "model must be a torch.nn.Module; got int"),
        (nn.Linear(2, 2), 5, "steps must be whole numbers; got 5"),
        (nn.Linear(2, 2), (0.5,), "steps must be a whole number; got 0.5"),
    ],
)
def test_mistakes_of_the_recorder(model, steps, message):
    with pytest.raises(TypeError, match=message):
        SymmetryRecorder(model, steps)
