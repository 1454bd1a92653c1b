"""Stages that look at the images before a layer learns: whitening, and starts from patches."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.data import permutation
from softhebb_fast.models import features
from softhebb_fast.nn import PatchWhitening
from softhebb_fast.training import checkpoint, preparation
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.run_folder import load_run
from softhebb_fast.training.trainer import Trainer
from tests.tiny import CONFIG, changed, trainer, write_mnist_subset
from tests.tolerances import TOLERANCES, assert_close
from tests.training.test_resume import ending, is_same, run_with_stops
from tests.training.test_trainer import watched

FIRST = "softkrotov-c8-k5-t2-lr0.05-lp0.5-r4:whiten-e0.1-n1e-3:triangle:max_4_2_1"
SECOND = "softkrotov-c9-k3-p1-t2-lr0.05-lp0.5-r4:whiten_pca-m20-i100:triangle:avg_2_2_0"
BOTH = {"preset": f"{FIRST} {SECOND} bp", "neuron_factor": 1.0, "init": "patches"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK", 40)


def test_stages_and_what_each_changes(tmp_path, root):
    _, watcher = watched(tmp_path, root, **BOTH)
    titles = [title for title, _ in watcher.states]
    train, test = (f"features of the {part} images" for part in ("train", "test"))
    assert titles == [
        *("whitening of layer 1", "start of layer 1", "layer 1", train),
        *("whitening of layer 2", "start of layer 2", "layer 2", train, test),
        *("classifier", "end"),
    ]
    assert dict(zip(titles, watcher.done, strict=False))["whitening of layer 2"] == 100
    states = dict(watcher.states)
    for block, after in ((0, "whitening of layer 2"), (1, "classifier")):
        norm = {f"blocks.{block}.norm.{name}" for name in ("weight", "bias", "patches")}
        weight = {f"blocks.{block}.layer.weight"}
        whitened, started, learns = (
            states[f"{what}layer {block + 1}"] for what in ("whitening of ", "start of ", "")
        )
        assert changed(whitened, started) == norm
        assert changed(started, learns) == changed(learns, states[after]) == weight


def test_statistics_are_those_of_the_images(tmp_path, root, small_batches):
    run = trainer(tmp_path, root, **BOTH)
    run.run()
    first, second = run.net.blocks
    images, _ = run.train_set.batch(slice(None))
    alone = PatchWhitening(1, 5, epsilon=0.1, contrast=1e-3).fit(images)
    assert first.norm.patches == alone.patches == 160 * 24 * 24
    assert_close(first.norm.weight, alone.weight, TOLERANCES["float32_u"])
    assert_close(first.norm.bias, alone.bias, TOLERANCES["float32_u"])
    some, _ = run.train_set.batch(permutation(160, 0)[:100])
    below = features([first], some)
    alone = PatchWhitening(8, 3, padding=1, method="pca", components=20).fit(below)
    assert second.norm.patches == alone.patches == 100 * 12 * 12
    assert second.norm.out_channels == 20
    assert_close(second.norm.weight, alone.weight, TOLERANCES["float32_whitened"])
    kept = load_run(tmp_path)
    with torch.no_grad():
        assert torch.equal(kept.net(images[:9]), run.net(images[:9]))


def test_a_start_is_of_patches_of_the_images(tmp_path, root, small_batches):
    norms = {"init": "patches:radius=1", "unsup_epochs": 0}  # sampled patches: nothing learns
    run = trainer(tmp_path / "a", root, **BOTH | norms)
    run.run()
    block = run.net.blocks[0]
    assert block.layer.norms().tolist() == pytest.approx([1.0] * 8)
    images, _ = run.train_set.batch(slice(None))
    seen = torch.nn.functional.normalize(block.norm(images).movedim(1, -1).flatten(0, -2), dim=1)
    alike = block.layer.weight.detach().flatten(1) @ seen.T
    assert alike.max(dim=1).values.tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    assert len(alike.argmax(dim=1).unique()) == 8
    weights = [block.layer.weight]
    for name, seed in (("b", 0), ("c", 1)):
        other = trainer(tmp_path / name, root, **BOTH | norms, seed=seed)
        other.run()
        weights.append(other.net.blocks[0].layer.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


STOPS = {
    "in the first whitening": [2],
    "at its end": [4],
    "in the first start": [6],
    "in the second whitening": [8 + 10 + 1 + 2],
    "in every stage": [2, 4, 5, 6, 3, 3, 4, 5],
}


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS)
def test_runs_that_are_stopped(tmp_path, root, small_batches, stops):
    config = BOTH | {"init": "kmeans"}
    trainer(tmp_path / "whole", root, **config).run()
    assert run_with_stops(tmp_path / "parts", root, stops, **config) == len(stops)
    assert is_same(ending(tmp_path / "parts"), ending(tmp_path / "whole"))


@pytest.mark.parametrize("mode", ["consecutive", "simultaneous"])
def test_one_layer_in_other_modes(tmp_path, root, mode):
    config = {"preset": f"{FIRST} bp", "neuron_factor": 1.0, "init": "kmeans", "mode": mode}
    run, watcher = watched(tmp_path, root, **config)
    titles = [title for title, _ in watcher.states]
    assert titles[:2] == ["whitening of layer 1", "start of layer 1"]
    assert run.net.blocks[0].norm.patches
    assert checkpoint.load(tmp_path)["stage"] == len(run._plan)


def test_errors_before_anything_is_written(tmp_path, root):
    with pytest.raises(ValueError, match=r"mode must be 'successive' .*; got 'consecutive'"):
        trainer(tmp_path / "a", root, **BOTH, mode="consecutive")
    for init in ("patches:radius=1", "1=normal;2=kmeans:radius=1.005"):
        with pytest.raises(ValueError, match=r"layer [12]: filters .* radius=1.* do not learn"):
            trainer(tmp_path / "a", root, **BOTH | {"init": init})
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match="different ones that are not zero, one a filter"):
        trainer(tmp_path / "b", root, **BOTH | {"init": "patches:sample=5"}).run()


def test_networks_without_either_are_planned_as_before(tmp_path, root):
    assert [stage.prepares for stage in trainer(tmp_path, root)._plan] == [None] * 3
    assert CONFIG["preset"] == "3SoftHebbCnnCIFAR"


@pytest.mark.parametrize("init", ["patches", "kmeans"])
def test_a_start_looks_at_as_many_images_as_it_needs(tmp_path, init):
    """A layer that sees one patch of an image."""
    images, labels = torch.rand(1500, 1, 6, 6), torch.arange(1500) % 3
    config = RunConfig(
        "softhebb-c1200-k6-r3:whiten:triangle_1 bp",
        "mine",
        init=init,
        classifier="ridge",
        unsup_epochs=0,
        seed=1,
    )
    run = Trainer(config, tmp_path, train=(images, labels), test=(images[:60], labels[:60]))
    run.run()
    assert len(run.net.blocks[0].layer.weight.unique(dim=0)) == 1200
