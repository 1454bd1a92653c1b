"""Runs in several processes: what they come to is what one process does, whatever happens."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from softhebb_fast.functional.distributed import ProcessLost
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.trainer import Trainer
from tests.tolerances import TOLERANCES, assert_close

SECONDS, WORLD = 300, 4
# Two Hebbian layers of 5 and 19 neurons.
CONFIG = {
    "preset": "3SoftHebbCnnCIFAR",
    "dataset": "mine",
    "neuron_factor": 0.05,
    "unsup_batch": 8,
    "unsup_epochs": 1,
    "probe_batch": 10,
    "probe_epochs": 2,
    "test_batch": 7,
    "augment": False,
}
PREPARED = (
    "softkrotov-c6-k3:whiten:triangle:max_2_2_0 oja-c8-k3:batchnorm2d:triangle:max_2_2_0 "
    "BP-c12-k2:relu:dropout_0.2 BP-c4"
)
LABELS = "softkrotov-c6-k3:batchnorm2d:triangle:max_2_2_0 supervisedsoftkrotov-c4"
# The last bit of a feature that was learned would decide how it is rounded.
UNLEARNED = {"unsup_epochs": 0, "classifier": "ridge", "probe_batch": 20, "probe_epochs": 1}
COARSE = {"sums": "float32", "factors": [0.1, 1]}
RUNS = {
    "successive": {},
    "consecutive": {"mode": "consecutive", "augment": True},
    "empty_parts": {"unsup_batch": 3, "probe_batch": 3, "limit": 16},
    "simultaneous": {"mode": "simultaneous"},
    "ridge": {"classifier": "ridge", "probe_batch": 20, "augment": True},
    "dual_ridge": {
        "classifier": "ridge",
        "probe_batch": 20,
        "probe_epochs": 1,
        "ridge": {"form": "dual", "standardise": True},
    },
    "ridge_kept_small": UNLEARNED | {"ridge": {"form": "dual", "kept": "bfloat16"} | COARSE},
    "ridge_held_out_kept_small": UNLEARNED
    | {"ridge": {"form": "primal", "kept": "float16"} | COARSE},
    "labels_without_a_cache": {"preset": LABELS, "neuron_factor": 1.0, "cache_gib": 0.0},
    "prepared": {"preset": PREPARED, "neuron_factor": 1.0, "init": {0: "normal", 1: "kmeans"}},
}
BOTH = ("successive", "empty_parts", "prepared")
SIZES = {name: (2, 4) if name in BOTH else (2,) for name in RUNS}


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with a darker row of a class's own."""
    x = torch.randint(0, 256, (count, 3, 16, 16), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 4
    for image, label in zip(x, labels.tolist(), strict=True):
        image[:, 4 * label : 4 * label + 4] //= 4
    return x.to(torch.uint8), labels


def trainer(out: Path, name: str, kind: type[Trainer] = Trainer, **options) -> Trainer:
    given = {"train": images(48, 0), "test": images(20, 1), **options}
    if out.exists():
        return kind.resume(out, **given)
    return kind(RunConfig(**CONFIG | RUNS[name]), out, **given)


def came_to(run: Trainer) -> dict:
    run.run()
    weights = {name: t.clone() for name, t in run.net.state_dict().items()}
    numbers = [{k: v for k, v in row.items() if k not in ("seconds", "phase")} for row in run.rows]
    return {"weights": weights, "rows": numbers, "phases": [row["phase"] for row in run.rows]}


class Stops(Reporter):
    """Asks a run to stop after so many images."""

    def __init__(self, after: int) -> None:
        self.left, self.run = after, None

    def advance(self, count: int) -> None:
        self.left -= count
        self.run.stop_requested |= self.left <= 0


class Killed(Trainer):
    """The second process of this run is killed in the middle of the second layer."""

    calls = 0

    def _save_if_due(self, *arguments, **options) -> None:
        self.calls += 1
        if self.calls == 9 and self.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._save_if_due(*arguments, **options)


class Process:
    """What one of the processes does."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number, self.folder, self.stores = number, folder, 0

    def together(self, members: range, work, *arguments):
        """``work`` in those processes, all of them of one group, if this is one of them."""
        self.stores += 1
        if self.number not in members:
            return None
        if len(members) > 1:
            store = dist.FileStore(str(self.folder / f"store{self.stores}"), len(members))
            rank = {"rank": members.index(self.number), "world_size": len(members)}
            dist.init_process_group("gloo", store=store, **rank)
        found = work(*arguments)
        if len(members) > 1:
            dist.destroy_process_group()
            gc.collect()
        return found

    def learn(self, out: str, name: str) -> dict:
        return came_to(trainer(self.folder / out, name))

    def stop(self, out: str, name: str, after: int) -> str:
        reporter = Stops(after)
        reporter.run = trainer(self.folder / out, name, reporter=reporter)
        try:
            reporter.run.run()
        except Interrupted as stop:
            return str(stop)
        return "did not stop"

    def refuse(self, out: str) -> str:
        """In a folder that holds a run, the first says why and the others that it does."""
        given = {"train": images(48, 0), "test": images(20, 1)}
        try:
            Trainer(RunConfig(**CONFIG), self.folder / out, **given)
        except (ValueError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def lose(self, out: str) -> str:
        try:
            trainer(self.folder / out, "successive", Killed).run()
        except ProcessLost as error:
            (self.folder / "lost").touch()
            return str(error)
        return "lost nobody"

    def go_on(self, out: str, name: str) -> dict:
        while not (self.folder / "lost").exists():
            time.sleep(0.05)
        return self.learn(out, name)


def process(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    own, found = Process(number, folder), {}
    for name in RUNS:
        for size in (1, *SIZES[name]):
            out = f"{name}-{size}"
            found[name, size] = own.together(range(size), own.learn, out, name)
    found["again"] = own.together(range(2), own.learn, "again", "consecutive")
    found["refused"] = own.together(range(2), own.refuse, "again")
    stopped = [
        own.together(range(2), own.stop, "moved", "consecutive", 30),
        own.together(range(1), own.stop, "moved", "consecutive", 40),
    ]
    found["stopped"], found["moved"] = (
        stopped,
        own.together(range(3), own.learn, "moved", "consecutive"),
    )
    torch.save(found, folder / f"{number}.pt")
    found["lost"] = own.together(range(2, 4), own.lose, "killed")
    found["went_on"] = own.together(range(2), own.go_on, "killed", "successive")
    torch.save(found, folder / f"{number}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each process has found; the last one is killed in the end."""
    folder = Path(tmp_path_factory.mktemp("ranks"))
    context = multiprocessing.get_context("spawn")
    made = [context.Process(target=process, args=(i, folder)) for i in range(WORLD)]
    for one in made:
        one.start()
    end = time.monotonic() + SECONDS
    try:
        for one in made:
            one.join(max(0.0, end - time.monotonic()))
        assert [one.exitcode for one in made] == [0] * (WORLD - 1) + [-signal.SIGKILL]
    finally:
        for one in made:
            one.kill()
    return [torch.load(folder / f"{i}.pt") for i in range(WORLD)]


def assert_same(first: dict, second: dict) -> None:
    """The same bits and the same records."""
    assert first["rows"] == second["rows"]
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name


def assert_like(found: dict, expected: dict) -> None:
    tol = TOLERANCES["float32_run"]
    assert found["phases"] == expected["phases"]
    for name, weight in expected["weights"].items():
        assert_close(found["weights"][name], weight, tol)
    for row, other in zip(found["rows"], expected["rows"], strict=True):
        assert row == pytest.approx(other, rel=tol, abs=tol)


@pytest.mark.parametrize(("name", "size"), [(n, size) for n in RUNS for size in SIZES[n]])
def test_processes_come_to_what_one_does(found, name, size):
    for other in range(1, size):
        assert_same(found[0][name, size], found[other][name, size])
    assert_like(found[0][name, size], found[0][name, 1])


def test_two_runs_have_the_same_bits(found):
    assert_same(found[0]["again"], found[0]["consecutive", 2])


def test_a_run_goes_on_in_another_number_of_processes(found):
    for text in (*found[0]["stopped"], found[1]["stopped"][0]):
        assert "stopped; the run goes on" in text
    assert_like(found[0]["moved"], found[0]["consecutive", 1])
    assert_same(found[0]["moved"], found[2]["moved"])


def test_what_the_first_process_refuses_ends_all(found):
    assert "ValueError: out already holds a run" in found[0]["refused"]
    assert "FirstFailed: the first process of the run has failed" in found[1]["refused"]


def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on(found):
    assert "another process of the run in" in found[2]["lost"]
    assert "softhebb-fast resume" in found[2]["lost"]
    assert "\n" not in found[2]["lost"]
    assert_same(found[0]["went_on"], found[0]["successive", 2])
