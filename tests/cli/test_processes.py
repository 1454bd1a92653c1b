"""Runs that ``torchrun`` starts: they end like those of one process, and go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

import softhebb_fast
from softhebb_fast.cli import process
from softhebb_fast.training import checkpoint
from softhebb_fast.training.run_folder import is_finished
from tests.tiny import write_mnist_subset
from tests.tolerances import TOLERANCES, assert_close

SECONDS = 400
TRAIN = ["train", "DemoMNIST", "--device", "cpu", "--neuron-factor", "0.05"]
LONG = [*TRAIN, "--unsup-epochs", "40", "--probe-epochs", "20"]
COUNTS_THREADS = """
import atexit, os, sys
from softhebb_fast.cli import main

def tell():
    threads = os.listdir("/proc/self/task")
    print("threads", sorted(open(f"/proc/self/task/{t}/comm").read().strip() for t in threads))

atexit.register(tell)  # before the command registers anything, and so called after it
sys.exit(main())
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 300)


class Torchrun:
    """A command in several processes."""

    def __init__(
        self,
        *arguments: object,
        processes: int = 2,
        restarts: int = 0,
        program: tuple[object, ...] = ("-m", "softhebb_fast"),
    ) -> None:
        here = {"PYTHONPATH": str(Path(softhebb_fast.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        call = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        call += ["--nproc-per-node", processes, "--max-restarts", restarts]
        call += [*program, *arguments, "--quiet", "--no-plots"]
        self.agent = subprocess.Popen(
            [str(word) for word in call],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | here,
        )

    def workers(self) -> list[int]:
        found = Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    def after_a_checkpoint(self, out: Path) -> Torchrun:
        end = time.monotonic() + SECONDS
        while not (out / checkpoint.FILE).exists():
            assert self.agent.poll() is None, self.agent.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.05)
        return self

    def end(self) -> tuple[int, str, str]:
        try:
            output, errors = self.agent.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.agent.terminate()  # which ends the processes that it has started
            self.agent.communicate(timeout=60)
            raise
        return self.agent.returncode, output, errors


def weights(out: Path) -> dict[str, Tensor]:
    return checkpoint.load(out)["model"]


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path, root):
    one, two = tmp_path / "one", tmp_path / "two"
    few = [*TRAIN, "--data", root, "--limit", 64]  # two steps: more magnify rounding manifold
    status, output, errors = Torchrun(*few, "--out", two).end()
    assert status == 0, errors
    assert output.count("2 processes") == output.count("test accuracy by") == 1
    assert Torchrun(*few, "--out", one, processes=1).end()[0] == 0
    for name, expected in weights(one).items():
        assert_close(weights(two)[name], expected, TOLERANCES["float32_run"])


@pytest.mark.slow
def test_no_thread_of_a_group_is_left_at_the_end(tmp_path, root):
    program = tmp_path / "program.py"
    program.write_text(COUNTS_THREADS)
    few = [*TRAIN, "--data", root, "--limit", 64, "--out", tmp_path / "run"]
    for expected in (0, 1):  # the second time the folder holds a run already
        status, output, errors = Torchrun(*few, program=(program,)).end()
        assert status == expected, errors
        counted = [line for line in output.splitlines() if line.startswith("threads")]
        assert len(counted) == 2
        assert "gloo" not in output


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, root) -> dict[str, Tensor]:
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert Torchrun(*LONG, "--data", root, "--out", out).end()[0] == 0
    return weights(out)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_goes_on(tmp_path, root, uninterrupted):
    out = tmp_path / "run"
    run = Torchrun(*LONG, "--data", root, "--out", out).after_a_checkpoint(out)
    os.kill(run.workers()[1], signal.SIGKILL)
    status, _, errors = run.end()
    assert status != 0
    [line] = [line for line in errors.splitlines() if line.startswith("softhebb-fast (process 0)")]
    assert f"another process of the run in {out} has ended" in line
    assert f"softhebb-fast resume {out}" in line
    status, _, errors = Torchrun("resume", out).end()
    assert status == 0, errors
    assert all(torch.equal(t, uninterrupted[name]) for name, t in weights(out).items())


@pytest.mark.slow
def test_torchrun_starts_a_run_again(tmp_path, root, uninterrupted):
    out = tmp_path / "run"
    run = Torchrun(*LONG, "--data", root, "--out", out, restarts=1).after_a_checkpoint(out)
    os.kill(run.workers()[0], signal.SIGKILL)
    status, output, errors = run.end()
    assert status == 0, errors
    assert f"{out} was stopped before its end, and goes on" in output
    assert all(torch.equal(t, uninterrupted[name]) for name, t in weights(out).items())


@pytest.mark.slow
def test_a_stopped_run_goes_on_in_one_process(tmp_path, root):
    out = tmp_path / "run"
    run = Torchrun(*LONG, "--data", root, "--out", out).after_a_checkpoint(out)
    run.agent.send_signal(signal.SIGINT)
    _, _, errors = run.end()
    stop = "softhebb-fast: stopped; the run goes on with: softhebb-fast resume"
    assert errors.count(stop) == 1
    assert not is_finished(out)
    assert Torchrun("resume", out, processes=1).end()[0] == 0
    assert is_finished(out)


def test_a_gpu_each(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="a GPU for each process of this machine; got 1"):
        process.join("cuda")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no processes")
def test_processes_that_are_started_again_do_not_meet_those_before(monkeypatch):
    server = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    server.set("address", "of one that is gone")
    here = {"MASTER_ADDR": "localhost", "MASTER_PORT": server.port, "RANK": 0}
    here |= {"WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "TORCHELASTIC_USE_AGENT_STORE": True}
    for name, value in here.items():
        monkeypatch.setenv(name, str(value))
    assert process._met() == {}
    for count in (1, 2):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(count))
        found = process._met()
        assert (found["rank"], found["world_size"]) == (0, 1)
        assert not found["store"].check(["address"])
        found["store"].set("address", "here")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert process._met() == {}
