from __future__ import annotations

import json
import os
import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softhebb_fast.files import writable_folder, write_atomically
from softhebb_fast.training import checkpoint
from softhebb_fast.training.config import RunConfig

CONFIG = RunConfig("DemoMNIST", "mnist")
STATE = {"weight": torch.arange(1000.0), "batch": 3}


@pytest.fixture
def saved(tmp_path) -> Path:
    checkpoint.save(tmp_path, CONFIG, STATE)
    return tmp_path


def test_what_is_saved_is_loaded(saved):
    loaded = checkpoint.load(saved, CONFIG)
    assert torch.equal(loaded["weight"], STATE["weight"])
    assert loaded["batch"] == 3
    assert loaded["config"] == CONFIG.to_dict()
    assert os.listdir(saved) == [checkpoint.FILE]


def unsealed(folder: Path, number: int) -> bytes:
    """The checkpoint of ``folder`` as it was written before there were digests."""
    content = checkpoint.load(folder) | {"format": number}
    torch.save(content, folder / checkpoint.FILE)
    return (folder / checkpoint.FILE).read_bytes()


def test_an_older_checkpoint_has_check_sums_alone(saved):
    whole = bytearray(unsealed(saved, checkpoint.UNSEALED))
    assert torch.equal(checkpoint.load(saved, CONFIG)["weight"], STATE["weight"])
    place = whole.index(STATE["weight"].numpy().tobytes())
    whole[place + 100] ^= 1
    (saved / checkpoint.FILE).write_bytes(whole)
    torch.load(saved / checkpoint.FILE, weights_only=True)  # notices nothing
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged \(.*check sum.*remove it"):
        checkpoint.load(saved)


SOLVED = RunConfig(
    "DemoMNIST", "mnist", classifier="ridge", ridge={"penalty": 1.0}, features={"grid": 2}
)


@pytest.mark.parametrize(
    ("part", "setting", "other"), [("features", "window", 0.5), ("ridge", "standardise", True)]
)
def test_a_checkpoint_older_than_a_setting_was_made_with_its_default(
    tmp_path, part, setting, other
):
    older = SOLVED.to_dict()
    del older[part][setting]
    torch.save({"format": checkpoint.UNSEALED, "config": older}, tmp_path / checkpoint.FILE)
    checkpoint.load(tmp_path, SOLVED)
    changed = replace(SOLVED, **{part: getattr(SOLVED, part) | {setting: other}})
    with pytest.raises(ValueError, match=f"another configuration .*'{setting}': {other}, .*here"):
        checkpoint.load(tmp_path, changed)


def test_a_checkpoint_that_lost_its_digest_is_no_older_one(saved):
    unsealed(saved, checkpoint.FORMAT)
    with pytest.raises(ValueError, match=r"damaged \(its digest is missing\); remove it"):
        checkpoint.load(saved)


def test_any_bit_of_a_checkpoint_counts(saved):
    path = saved / checkpoint.FILE
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), 300):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged .*remove it"):
            checkpoint.load(saved, CONFIG)


def test_random_state_comes_back(tmp_path):
    torch.manual_seed(5)
    torch.rand(3)
    checkpoint.save(tmp_path, CONFIG, {})
    expected = torch.rand(4)
    loaded = checkpoint.load(tmp_path)
    assert not torch.equal(torch.rand(4), expected)
    checkpoint.restore_rng(loaded["rng"])
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_while_writing_leaves_the_old_file(saved, monkeypatch, failure):
    before = (saved / checkpoint.FILE).read_bytes()

    def fail_half_way(content, file):
        file.write(before[: len(before) // 2])
        file.flush()
        raise failure

    monkeypatch.setattr(torch, "save", fail_half_way)
    with pytest.raises(type(failure)):
        checkpoint.save(saved, CONFIG, {"batch": 4})
    assert (saved / checkpoint.FILE).read_bytes() == before
    assert os.listdir(saved) == [checkpoint.FILE]


def test_a_move_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", lambda file: file.write(b"new"))
    assert os.listdir(tmp_path) == ["taken"]


def test_a_file_is_replaced_only_once_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    write_atomically(path, write)
    assert path.read_bytes() == b"new"


def test_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint: .*does not exist"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"garbage" * 100, lambda whole: whole[: len(whole) // 2]],
    ids=["empty", "garbage", "truncated"],
)
def test_damaged_file(saved, damage):
    path = saved / checkpoint.FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged .*remove it") as error:
        checkpoint.load(saved)
    assert "\n" not in str(error.value)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_run_from_a_checkpoint(tmp_path):
    torch.save({"format": checkpoint.FORMAT, "trap": Trap(tmp_path / "sprung")}, tmp_path / "trap")
    (tmp_path / "trap").rename(tmp_path / checkpoint.FILE)
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [{"format": checkpoint.FORMAT + 1}, {"model": {}}, [1, 2]])
def test_another_format(tmp_path, content):
    torch.save(content, tmp_path / checkpoint.FILE)
    with pytest.raises(ValueError, match=f"is not of format {checkpoint.FORMAT}"):
        checkpoint.load(tmp_path)


def test_another_configuration_is_refused_with_what_differs(saved):
    other = RunConfig("DemoMNIST", "fashionmnist", seed=4)
    with pytest.raises(ValueError, match="belongs to another configuration") as error:
        checkpoint.load(saved, other)
    message = str(error.value)
    assert "(dataset: 'mnist' there, 'fashionmnist' here; seed: 0 there, 4 here)" in message


def test_inits_by_layer_are_compared_as_they_are_written(tmp_path):
    config = RunConfig("4SoftHebbCnnCIFAR", "mnist", init={0: "zerO", 2: "zerO"})
    checkpoint.save(tmp_path, config, {})
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert checkpoint.load(tmp_path, again)["format"] == checkpoint.FORMAT


def test_writable_folder(tmp_path):
    assert writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="out must be a folder that can be written; got"):
            writable_folder(path)
    with pytest.raises(ValueError, match="place must be a folder"):
        writable_folder(Path("/proc/softhebb_fast"), "place")


def test_a_checkpoint_older_than_an_option_has_its_default(tmp_path):
    config = RunConfig("DemoMNIST", "mnist")
    old = config.to_dict()
    del old["cache_gib"]
    with open(tmp_path / checkpoint.FILE, "wb") as file:
        torch.save({"format": checkpoint.UNSEALED, "config": old}, file)
    assert checkpoint.load(tmp_path, config)["config"] == old
    with pytest.raises(ValueError, match=r"cache_gib: 8.0 there, 2.0 here"):
        checkpoint.load(tmp_path, RunConfig("DemoMNIST", "mnist", cache_gib=2.0))
