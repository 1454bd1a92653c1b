from __future__ import annotations

import pytest
import torch

from softhebb_fast.training import checkpoint
from softhebb_fast.training.backprop import BackpropTrainer
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.finite import NotFinite, first_not_finite
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.supervised_stage import SupervisedStage
from tests.tiny import trainer, write_mnist_subset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 160)


def harm(monkeypatch, stage: type, when: int, value: float, layer=lambda net: net) -> None:
    """Let the step ``when`` of such a stage (from 0) leave ``value`` in a weight."""
    step = stage.step

    def harmed(self, number, x, labels):
        step(self, number, x, labels)
        if number == when:
            with torch.no_grad():
                layer(self).view(-1)[7] = value

    monkeypatch.setattr(stage, "step", harmed)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize(("when", "batch"), [(0, 1), (6, 7), (9, 10)])
def test_a_hebbian_layer(tmp_path, root, monkeypatch, when, batch, value):
    def weight(stage):
        return stage.net.blocks[stage.trained[0]].layer.weight

    harm(monkeypatch, HebbianStage, when, value, weight)
    match = (
        rf"layer 1 \(blocks\.0.*\) became .* at batch {batch} of 10 of epoch 1 of layer 1: its in"
    )
    with pytest.raises(NotFinite, match=match):
        trainer(tmp_path, root).run()
    assert not (tmp_path / checkpoint.FILE).exists()  # nothing harmed was kept


def test_the_classifier_with_dropout(tmp_path, root, monkeypatch):
    harm(monkeypatch, SupervisedStage, 8, float("nan"), lambda stage: stage.model[-1].weight)
    match = r"the classifier \(head\.2\.weight\) became .* at batch 4 of 5 of epoch 2 of classifier"
    with pytest.raises(NotFinite, match=match):
        trainer(tmp_path, root).run()
    saved = checkpoint.load(tmp_path)
    assert first_not_finite(saved["model"]) is None
    monkeypatch.undo()
    resumed = type(trainer(tmp_path / "b", root)).resume(tmp_path)
    assert 0 <= resumed.run()["test_accuracy"] <= 100


def test_backpropagation(tmp_path, root):
    config = BackpropConfig("perceptron", "mnist", limit=160, batch=32, epochs=3, lr=1e38,
                            optimizer="sgd", options={"hidden": [20]})  # fmt: skip
    with pytest.raises(NotFinite, match=r"layer \S+ became .* at batch [1-5] of 5 of epoch 1"):
        BackpropTrainer(config, tmp_path, root=root).run()


def test_a_start_that_is_not_finite(tmp_path, root):
    run = trainer(tmp_path, root)
    with torch.no_grad():
        run.net.blocks[1].layer.weight[3] = float("inf")
    with pytest.raises(NotFinite, match=r"layer 2 \(blocks\.1\.\S*weight\) is not finite before"):
        run.run()


def test_features_that_are_not_finite(tmp_path, root, monkeypatch):
    from softhebb_fast.training import features

    def wrong(blocks, x):
        x = features_of(blocks, x)
        if len(x) == 160:
            x[41] = float("nan")
        return x

    features_of = features.features
    monkeypatch.setattr(features, "features", wrong)
    with pytest.raises(NotFinite, match=r"layer 2 learns from, the train images .* image 41"):
        trainer(tmp_path, root).run()


def test_a_checkpoint_in_mid_epoch_is_sound(tmp_path, root, monkeypatch):
    def weight(stage):
        return stage.net.blocks[stage.trained[0]].layer.weight

    harm(monkeypatch, HebbianStage, 2, float("nan"), weight)
    monkeypatch.setattr(HebbianStage, "records", 1)
    run = trainer(tmp_path, root)
    run.pace.seconds = 0.0
    with pytest.raises(NotFinite, match="at batch 3 of 10"):
        run.run()
    assert first_not_finite(checkpoint.load(tmp_path)["model"]) is None
    assert checkpoint.load(tmp_path)["batch"] == 2


def test_sound_runs_are_not_changed_by_the_watch(tmp_path, root, monkeypatch):
    watched = trainer(tmp_path / "a", root)
    watched.run()
    for name in ("keep", "check"):
        monkeypatch.setattr(f"softhebb_fast.training.finite.Guard.{name}", lambda *_: None)
    alone = trainer(tmp_path / "b", root)
    alone.run()
    for name, value in watched.net.state_dict().items():
        assert torch.equal(value, alone.net.state_dict()[name]), name
