"""Runs by other rules than SoftHebb's, and layers that are told the labels."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast import cli
from softhebb_fast.data import load
from softhebb_fast.models import build
from softhebb_fast.nn import HebbianConv2d, HebbianLinear, SoftHebbConv2d, SoftHebbLinear
from softhebb_fast.presets import RULE_NAMES, TAUGHT, parse_network
from softhebb_fast.training import runs
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.run_folder import load_run
from softhebb_fast.training.stage import BatchSource
from softhebb_fast.training.supervised_stage import SupervisedStage
from tests.tiny import CONFIG, changed, snapshot, trainer, write_mnist_subset

UNTAUGHT = [name for name in RULE_NAMES if name not in TAUGHT]
MNIST = (1, 28, 28)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def images(root):
    return load("mnist", "train", root=root, limit=60)


@pytest.mark.parametrize("rule", UNTAUGHT)
def test_every_rule_trains_a_preset(rule, images):
    config = RunConfig(**CONFIG | {"rule": rule})
    net = config.build(MNIST, 10)
    before = [block.layer.weight.detach().clone() for block in net.blocks]
    stage = HebbianStage(net, BatchSource(images, []), images, [0, 1], 1, 20)
    for number, start in enumerate(range(0, 60, 20)):
        x, labels = images.batch(torch.arange(start, start + 20))
        stage.step(number, x, labels)
    for block, weight in zip(net.blocks, before, strict=True):
        assert isinstance(block.layer, SoftHebbConv2d)
        assert (block.layer.weight - weight).abs().max() > 1e-6
        assert block.layer.weight.isfinite().all()
        named = getattr(block.layer, "rule", block.layer.wta)
        assert named == ("soft_anti" if rule == "softhebb" else rule)


def test_softhebb_s_layers_are_what_they_were():
    net = build("4SoftHebbCnnCIFAR", (3, 32, 32), 10)
    assert {type(block.layer) for block in net.blocks} == {SoftHebbConv2d}
    net = build(parse_network("soft-c8 supervised"), MNIST, 10)
    assert [type(net.blocks[0].layer), type(net.head[-1])] == [SoftHebbLinear] * 2
    kinds = build(parse_network("oja-c8-k3 oja-c8 bp"), MNIST, 10).blocks
    assert [type(block.layer) for block in kinds] == [HebbianConv2d, HebbianLinear]


@pytest.mark.parametrize("rule", TAUGHT)
def test_a_hidden_layer_is_told_the_labels(rule, images):
    net = build(parse_network(f"{rule}-c10:relu soft-c6:softmax_1 bp"), MNIST, 10)
    stage = HebbianStage(net, BatchSource(images, []), images, [0, 1], 1, 20)
    x, labels = images.batch(torch.arange(20))
    before = net.blocks[0].layer.weight.detach().clone()
    stage.step(0, x, labels)
    learned = net.blocks[0].layer.weight - before
    layer = HebbianLinear(784, 10, rule=rule, t_invert=net.blocks[0].layer.t_invert)
    layer.weight.data.copy_(before)
    wanted = layer.hebbian_update(x.flatten(1), target=labels).delta_w
    assert torch.allclose(learned, net.blocks[0].layer.lr * wanted, atol=1e-6)
    alone = HebbianStage(net, BatchSource(images, []), images, [0], 1, 20)
    before = snapshot(net)
    alone.step(0, x, labels)
    assert changed(before, snapshot(net)) == {"blocks.0.layer.weight"}


@pytest.mark.parametrize("rule", TAUGHT)
def test_a_classifier_by_a_local_rule(rule, images):
    net = build(parse_network(f"{rule}:flatten"), MNIST, 10)
    stage = SupervisedStage(
        net, BatchSource(images, []), BatchSource(images, []), images, 0, 40, 20, 60
    )
    for epoch in range(40):
        for number, start in enumerate(range(0, 60, 20)):
            x, labels = images.batch(torch.arange(start, start + 20))
            stage.step(3 * epoch + number, x, labels)
    row = stage.end_epoch(40)[-1]
    assert row["test_accuracy"] > 70, row


@pytest.mark.parametrize("mode", ["successive", "consecutive"])
def test_a_run_with_both(mode, root, tmp_path):
    preset = "oja-c5-k3:triangle_1:max_4_4_0 delta_rule-c10:relu teacher"
    run = trainer(tmp_path / "run", root, preset=preset, neuron_factor=1.0, mode=mode)
    run.run()
    assert load_run(tmp_path / "run").config.preset == preset


def test_a_rule_is_part_of_the_run(root, tmp_path):
    run = trainer(tmp_path / "run", root, rule="bcm")
    run.run()
    assert load_run(tmp_path / "run").config.rule == "bcm"
    again = runs.resume(tmp_path / "run", root=root)
    state = again.net.blocks[0].layer.state_dict()
    assert torch.equal(state["threshold"], run.net.blocks[0].layer.threshold)
    assert state["threshold"].max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "ojas"}, "rule must be one of softhebb, .*; got 'ojas'"),
        ({"rule": "teacher"}, "'teacher' does not fit layer 0 of 3SoftHebbCnnCIFAR.*linear layers"),
        ({"preset": "3CnnCIFAR", "rule": "oja", "neuron_factor": 1.0}, "has no Hebbian layer"),
        (
            {"preset": "teacher-c10 bp", "neuron_factor": 1.0, "mode": "simultaneous"},
            "mode must be successive or consecutive for layers with the rule 'teacher'",
        ),
    ],
)
def test_runs_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**CONFIG | changes).network()


@pytest.mark.parametrize("layers", ["teacher-c12 bp", "hard-c4-k3 delta_rule-c12"])
def test_what_learns_labels_has_a_neuron_a_class(layers):
    with pytest.raises(ValueError, match="must have a neuron a class, 10; got 12"):
        build(parse_network(layers), MNIST, 10)


def test_the_command_takes_a_rule(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--limit", "40", "--neuron-factor", "0.05", "--probe-epochs", "1", "--no-plots"]
    command = ["train", "2SoftHebbCnnCIFAR", "--dataset", "mnist", "--data", str(root), *small]
    assert cli.main([*command, "--rule", "oja", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "2SoftHebbCnnCIFAR_0.05xNeurons_oja" in out
    assert "writing to runs/2SoftHebbCnnCIFAR-oja-mnist-0" in out
    assert cli.main([*command, "--rule", "delta_rule"]) == 2
    assert "rule 'delta_rule' does not fit layer 0" in capsys.readouterr().err
