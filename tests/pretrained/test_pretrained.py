from __future__ import annotations

import json
import pickle
import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from softhebb_fast.data import data_root, sets
from softhebb_fast.presets import PRESETS
from softhebb_fast.pretrained import bundled, from_pretrained, save_pretrained, weights
from softhebb_fast.pretrained import folder as folders
from softhebb_fast.pretrained.folder import BUNDLED, CARD
from softhebb_fast.training import BackpropConfig, begin, load_run
from tests import tolerances
from tests.tiny import changed, snapshot, trainer, write_mnist_subset


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a finished run, of which ``data`` beside it holds the images."""
    folder = tmp_path_factory.mktemp("run")
    root = write_mnist_subset(folder / "data")
    trainer(folder / "run", root).run()
    return folder / "run"


@pytest.fixture
def saved(run, tmp_path) -> Path:
    return save_pretrained(run, tmp_path / "mine")


def about(folder: Path) -> dict:
    with safe_open(folder / weights.FILE, framework="pt") as file:
        return json.loads(file.metadata()[weights.ABOUT])


def card_accuracy(folder: Path) -> float:
    return float(re.search(r"test accuracy \| ([\d.]+) %", (folder / CARD).read_text())[1])


def test_a_saved_run_comes_back(run, saved):
    state = torch.get_rng_state()
    found = from_pretrained(saved)
    assert torch.equal(torch.get_rng_state(), state)
    kept = load_run(run)
    assert sorted(path.name for path in saved.iterdir()) == [CARD, weights.FILE]
    assert not changed(snapshot(found.net), snapshot(kept.net))
    assert not any(module.training for module in found.net.modules())
    for name in ("config", "rows", "neurons", "image_shape"):
        assert getattr(found, name) == getattr(kept, name), name
    assert found.evaluate(run.parent / "data") == kept.evaluate()
    assert card_accuracy(saved) == pytest.approx(kept.rows[-1]["test_accuracy"], abs=0.005)


def test_the_metadata_tell_what_made_it(run, saved):
    made, config = about(saved), json.loads((run / "config.json").read_text())
    assert made["made_by"] == config["made_by"]
    assert made["data"] == config["data"]
    assert made["run"] == config["run"]
    assert "root" not in made


def test_a_network_of_another_kind_comes_back(tmp_path):
    root = write_mnist_subset(tmp_path / "data")
    options = {"hidden": [7]}
    config = BackpropConfig("perceptron", "mnist", options=options, epochs=1, limit=64)
    begin(config, tmp_path / "run", root=root).run()
    found = from_pretrained(save_pretrained(tmp_path / "run", tmp_path / "mine"))
    assert found.config.options == options
    assert not changed(snapshot(found.net), snapshot(load_run(tmp_path / "run").net))


def test_an_unfinished_run_is_refused(tmp_path):
    root = write_mnist_subset(tmp_path / "data")
    trainer(tmp_path / "run", root)
    with pytest.raises(ValueError, match="run must be finished"):
        save_pretrained(tmp_path / "run", tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="there is no run"):
        save_pretrained(tmp_path / "other", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def header(content: bytes) -> int:
    return 8 + struct.unpack("<Q", content[:8])[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: b"", "is damaged, or no file of safetensors"),
        (lambda c: c[:100], "is damaged, or no file of safetensors"),
        (lambda c: c[:-1], "is damaged, or no file of safetensors"),
        (lambda c: pickle.dumps({"weight": 1}), "is damaged, or no file of safetensors"),
        (lambda c: flip(c, header(c)), "does not have its digest"),
        (lambda c: flip(c, len(c) - 1), "does not have its digest"),
        (lambda c: c.replace(b'\\"seed\\": 0', b'\\"seed\\": 1'), "does not have its digest"),
    ],
)
def test_damaged_files_are_named(saved, damage, message):
    path = saved / weights.FILE
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with pytest.raises(ValueError, match=f"{path}.*{message}"):
        from_pretrained(saved)


def test_files_of_others_are_refused(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / weights.FILE)
    with pytest.raises(ValueError, match="not written by softhebb_fast: its metadata lack"):
        from_pretrained(tmp_path)
    (tmp_path / weights.FILE).unlink()
    with pytest.raises(FileNotFoundError, match="there are no weights"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is not of format 1"),
        ({"kind": "pickle"}, "holds no network"),
        ({"num_classes": 11}, "holds no network"),
        ({"run": {"preset": "DemoMNIST", "dataset": "mnist", "call": "os.system"}}, "call"),
        ({"run": {"preset": "2SoftHebbZerOMNIST", "dataset": "mnist"}}, "holds no network"),
    ],
)
def test_what_does_not_fit_is_named(saved, change, message):
    state, known = weights.read(saved / weights.FILE)
    weights.write(saved / weights.FILE, state, known | change)
    with pytest.raises(ValueError, match=message):
        from_pretrained(saved)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DemoMINST", "did you mean DemoMNIST"),
        ("nothing", "in the package are .*DemoMNIST"),
        ("./no/where", "a folder or a repository"),
    ],
)
def test_names_that_are_nothing(name, message):
    with pytest.raises(ValueError, match=message):
        from_pretrained(name)


def test_repositories_are_taken_from_the_hub(saved, monkeypatch):
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(saved)

    hub = SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setattr(folders, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    found = from_pretrained("someone/mine", revision="v1")
    assert asked == {
        "repository": "someone/mine",
        "revision": "v1",
        "allow_patterns": [weights.FILE, CARD],
    }
    assert found.config == from_pretrained(saved).config


def test_without_the_hub_a_repository_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(folders, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'softhebb_fast\[hub\]'"):
        from_pretrained("someone/mine")


def test_the_bundled_networks_are_small_and_named_after_presets():
    assert "DemoMNIST" in bundled()
    assert set(bundled()) <= set(PRESETS)
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= 5_000_000
    for name in bundled():
        made = about(BUNDLED / name)
        assert made["made_by"]["commit"]
        assert made["run"]["limit"] is None
        assert f'from_pretrained("{name}")' in (BUNDLED / name / CARD).read_text()


@pytest.mark.parametrize(
    "name",
    [
        name if name == "DemoMNIST" else pytest.param(name, marks=pytest.mark.slow)
        for name in bundled()
    ],
)
def test_a_bundled_network_reaches_what_its_card_says(name):
    run = from_pretrained(name)
    own = data_root() / sets.DATA_SETS[run.config.dataset].folder
    if run.config.dataset != "mnist" and not own.is_dir():
        pytest.skip(f"waits for {run.config.dataset} in the data root")
    _, accuracy = run.evaluate()
    assert accuracy == pytest.approx(card_accuracy(BUNDLED / name), abs=tolerances.CARD_ACCURACY)
