"""A slice of ``make fire``: damaged files are refused or harmless, killed runs end as others do."""

from __future__ import annotations

import copy
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from softhebb_fast import SoftHebbLinear

pytest.importorskip("triton")
pytest.importorskip("optuna")

from benchmarks.fire import corruptions, largest, page, record, soak
from benchmarks.fire.damage import DAMAGES, trap
from benchmarks.fire.hardships import HARDSHIPS, OUTCOMES, complaint
from benchmarks.fire.kills import SHARES
from benchmarks.fire.lives import machine, moves, twins
from benchmarks.fire.lives.plans import Plan
from benchmarks.fire.targets import Target

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_seeded_and_bounded(name):
    data = random.Random(1).randbytes(1000)
    for seed in range(200):
        damaged = DAMAGES[name](data, random.Random(seed))
        assert damaged == DAMAGES[name](data, random.Random(seed))
        assert len(damaged) < 1400
    for data in (b"a", b"ab"):
        assert isinstance(DAMAGES[name](data, random.Random(0)), bytes)


def test_every_fault_is_seen(tmp_path):
    """By readers that do what none should."""
    watch, sprung, path = corruptions.Watch(), tmp_path / "sprung", tmp_path / "file"
    path.write_bytes(b"1")

    def outcome(read, damaged=b"2", **options) -> str:
        target = Target("kind", path, read, **options)
        found = corruptions.tried(target, damaged, b"1", watch, sprung)
        assert path.read_bytes() == b"1"
        return found.partition(":")[0]

    def refuse(error):
        raise error

    assert outcome(path.read_bytes) == "another result"
    assert outcome(path.read_bytes, open=True) == "another meaning"
    assert outcome(path.read_bytes, part=lambda whole, found: True) == "part"
    assert outcome(lambda: b"1") == "same"
    assert outcome(lambda: refuse(ValueError(f"{path} is damaged"))) == "refused"
    assert outcome(lambda: refuse(ValueError("damaged"))) == "unclear error"
    assert outcome(lambda: refuse(KeyError(str(path)))) == "wrong error"
    loaded = outcome(lambda: pickle.loads(path.read_bytes()), trap(sprung))
    assert loaded == "code was run"
    assert sprung.exists()


def test_no_damage_goes_unnoticed(tmp_path):
    """In a process of its own: what listens to Python's events cannot be taken away again."""
    table = tmp_path / "table.csv"
    command = [sys.executable, "-m", "benchmarks.fire.corruptions", "--times", "156"]
    done = subprocess.run(
        [*command, "--seed", "100", "--out", table], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = record.read(table)
    assert sum(int(row["times"]) for row in rows) == 156
    assert sum(int(row["refused"] or 0) for row in rows) > 100
    assert len({row["file"] for row in rows}) > 20


@pytest.mark.filterwarnings("ignore")
def test_a_module_computes_what_a_fresh_one_does():
    assert machine.live(10, 100) is None
    assert sum(count["compared"] for count in machine.TALLY.values()) > 20
    assert not any(count[fault] for count in machine.TALLY.values() for fault in machine.FAULTS)


PLAN = Plan("layer", "SoftHebbLinear", (6, 4), {"update": "in_place", "lr": 0.1}, (3, 6))


def life() -> machine.Lives:
    found = machine.Lives()
    found.begin(PLAN, 0, 0)
    found.learn(0)
    found.is_as_known()
    return found


def test_every_fault_of_a_life_is_seen(monkeypatch):
    """Of layers that do what none should."""
    one = life()
    monkeypatch.setitem(moves.COPIES, "pickle", lambda module: module.eval())
    one.copy("pickle")
    with pytest.raises(AssertionError):
        one.is_as_known()
    one = life()
    one.module.weight.data[0, 0] += 1e-6
    with pytest.raises(AssertionError, match="changed by itself"):
        one.is_as_known()
    one = life()
    one.module.lr = 0.2
    with pytest.raises(AssertionError, match=r"weight is .*, of a fresh one"):
        one.learn(1)
    one = life()
    one.module.requires_grad_(False)
    with pytest.raises(AssertionError, match="what learns is"):
        one.is_as_known()


def test_a_bit_tells_two_outcomes_apart():
    layer = SoftHebbLinear(6, 4, update="in_place", lr=0.1)
    x, twin = torch.rand(3, 6), copy.deepcopy(layer)
    for context in twins.CONTEXTS:
        both = [twins.lived(m, m, x, {}, context, False, 0) for m in (layer, twin)]
        twins.compare(*both)
    both[0].state["weight"][0, 0] += 1e-6
    with pytest.raises(AssertionError, match="weight is"):
        twins.compare(*both)


def test_what_grows_or_slows_is_not_flat():
    assert soak.row("files", [5.0] * 40, 1)["flat"] == "yes"
    assert soak.row("files", [5.0 + i / 100 for i in range(40)], 1)["flat"] == "no"
    assert soak.row("speed", [5.0 - i / 100 for i in range(40)], 1)["flat"] == "no"


def test_a_network_that_does_not_fit_says_what_was_asked_for():
    fits, lacks = (largest.limited(0, beside, "3SoftHebbCnnImNet", 1) for beside in (1, 0.01))
    assert fits["one step"] == lacks["refused"] == 1, (fits, lacks)


def test_no_command_that_is_killed_loses_anything(tmp_path):
    rows = run("kills", tmp_path, "--times", "8")
    assert sum(int(row["times"]) for row in rows) >= 8
    assert all(row["times"] == row["same end"] for row in rows)
    assert len({row["moment"].split(",")[0] for row in rows}) == len(SHARES)


def test_no_command_in_trouble_loses_anything(tmp_path):
    """Once each, of those that are done in a moment."""
    quick = [name for name in HARDSHIPS if name != "memory limited"]  # which takes new processes
    commands = {"search", "reproduce", "kernel cache"}
    options = ("--times", "1", "--stop", "1", "--only", *quick, "--commands", *commands)
    rows = run("hardships", tmp_path, *options)
    tried = [HARDSHIPS[name] for name in quick if not HARDSHIPS[name].why_not()]
    assert len(rows) == sum(len(commands & set(hardship.jobs)) for hardship in tried)
    for row in rows:
        assert row["times"] == str(sum(int(row[key] or 0) for key in OUTCOMES))


@pytest.mark.parametrize(
    ("status", "said", "wrong"),
    [
        (2, "softhebb-fast: error: [Errno 28] No space left on device: '{}/a'", ""),
        (2, "softhebb-fast: error: [Errno 28] No space left on device", "what it says"),
        (2, "softhebb-fast: error: damaged: '{}/a'", "what it says"),
        (1, "softhebb-fast: error: [Errno 28] No space left on device: '{}/a'", "exit status 1"),
        (2, "Traceback\nsofthebb-fast: error: No space left on device: '{}/a'", "exit status 2"),
        (2, "No space left on device: '{}/a'", "exit status 2, 0 lines"),
    ],
)
def test_what_a_command_must_say(status, said, wrong):
    folder = Path("/nowhere/run")
    found = complaint(HARDSHIPS["disk full"], folder, status, said.format(folder))
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


def run(name: str, folder: Path, *options: str) -> list[dict[str, str]]:
    table = folder / "table.csv"
    command = [sys.executable, "-m", f"benchmarks.fire.{name}", *options, "--seed", "100"]
    done = subprocess.run([*command, "--out", table], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return record.read(table)


def test_the_page_is_that_of_the_tables():
    assert page.committed() == page.PAGE.read_text(encoding="utf-8"), (
        "docs/reliability.md is stale: python -m benchmarks.fire.page --write"
    )
