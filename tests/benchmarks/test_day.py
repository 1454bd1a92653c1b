"""The order of the day that a GPU is there, with commands that only pretend to run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import day
from benchmarks.gpu.day import Day, Done
from softhebb_fast.bench.cases import select
from softhebb_fast.bench.providers import choose

HERE = {
    "missing": [],
    "cuda": True,
    "name": "NVIDIA H100 80GB HBM3",
    "torch": "2.11.0+cu130",
    "xdist": True,
}
CSV = """case,provider,median,q20,q80
cifar10/step/b10,published,0.004,0.0039,0.0041
cifar10/step/b10,triton,0.0002,0.00019,0.00021
"""


class Stub:
    """A machine: what each kind of command comes to, and which were run."""

    def __init__(self, tmp_path: Path, tools=("nvidia-smi", "compute-sanitizer"), **ends) -> None:
        self.tools, self.now, self.ran, self.seconds = {*tools}, 0.0, [], {}
        self.ends = {
            "gpus": Done(0, "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)\n"),
            "probe": Done(0, json.dumps(HERE)),
            **ends,
        }
        self.took = {"correctness": 100.0}
        self.day = Day(self.run, self.which, lambda: self.now, tmp_path / "r", tmp_path / "logs")

    def which(self, name: str) -> str | None:
        return name if name in self.tools or name == sys.executable else None

    def run(self, command, seconds) -> Done:
        kind = self.kind(command)
        self.ran.append(kind)
        self.seconds[kind] = seconds
        self.now += min(seconds, self.took.get(kind, 1.0))
        if kind == "benchmark":
            table = Path(command[command.index("--csv") + 1])
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text(CSV)
        return self.ends.get(kind, Done(0, "1 passed"))

    def kind(self, command) -> str:
        for word, kind in (
            ("-L", "gpus"),
            ("-c", "probe"),
            ("setup", "setup"),
            ("info", "device"),
            ("memcheck", "memcheck"),
            ("racecheck", "racecheck"),
            ("tests/gpu", "correctness"),
            ("bench", "benchmark"),
        ):
            if word in command:
                return kind
        raise AssertionError(command)


ALL = ["gpus", "probe", "device", "correctness", "memcheck", "racecheck", "benchmark"]


def test_all_is_well(tmp_path):
    stub = Stub(tmp_path)
    assert stub.day.go() == 0
    assert stub.ran == ALL
    assert [part.outcome for part in stub.day.parts] == ["passed"] * 5
    text = (tmp_path / "r" / "gpu_nvidia_h100_80gb_hbm3.md").read_text()
    assert text.startswith("# NVIDIA H100 80GB HBM3\n")
    assert "| correctness | passed | 100 | 1 passed |" in text
    assert "| cifar10/step/b10 | triton | 200.0 | 190.0 | 210.0 | 20.0 |" in text
    assert (tmp_path / "logs" / "correctness.log").read_text() == "1 passed"


def test_without_a_gpu_nothing_is_tried(tmp_path, capsys):
    stub = Stub(tmp_path, tools=())
    assert stub.day.go() == 2
    assert stub.ran == []
    assert "make gpu is for a machine with a GPU" in capsys.readouterr().out
    broken = Stub(tmp_path, gpus=Done(9, "NVIDIA-SMI has failed"))
    assert broken.day.go() == 2
    assert broken.ran == ["gpus"]


def test_what_is_wrong_is_not_timed(tmp_path):
    stub = Stub(tmp_path, correctness=Done(1, "FAILED tests/gpu\n1 failed, 9 passed"))
    assert stub.day.go() == 1
    assert stub.ran == ALL[:4]
    text = next((tmp_path / "r").glob("*.md")).read_text()
    assert "| correctness | failed | 100 | exit status 1: 1 failed, 9 passed" in text
    assert "median" not in text


def test_correctness_that_takes_too_long_is_wrong(tmp_path):
    stub = Stub(tmp_path, correctness=Done(None, "...."))
    assert stub.day.go() == 1
    assert "benchmark" not in stub.ran


def test_a_missing_sanitizer_is_said(tmp_path, capsys):
    stub = Stub(tmp_path, tools=("nvidia-smi",))
    assert stub.day.go() == 0
    assert stub.ran == [kind for kind in ALL if "check" not in kind]
    assert "memcheck: left out: compute-sanitizer is not on the PATH" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("end", "status", "timed"),
    [
        (Done(99, "========= ERROR SUMMARY: 3 errors"), 1, False),
        (Done(1, "Device not supported"), 0, True),  # the tool itself could not work
        (Done(None, ""), 0, True),
    ],
)
def test_what_a_sanitizer_finds_is_wrong(tmp_path, end, status, timed):
    stub = Stub(tmp_path, racecheck=end)
    assert stub.day.go() == status
    assert ("benchmark" in stub.ran) == timed


def test_benchmarks_cut_short_keep_what_they_have(tmp_path):
    stub = Stub(tmp_path, benchmark=Done(None, "cifar10/step/b10 ..."))
    assert stub.day.go() == 0
    assert "| 20.0 |" in next((tmp_path / "r").glob("*.md")).read_text()
    refused = Stub(tmp_path, benchmark=Done(1, "triton failed the gate"))
    assert refused.day.go() == 1


def test_the_cases_and_providers_are_there():
    cases, cuda = select(day.CASES), torch.device("cuda")
    assert cases[0].name == "cifar10/step/b10"
    for provider in choose(day.PROVIDERS):
        assert any(provider.why_not(case, cuda) is None for case in cases)


def test_the_day_ends_in_time(tmp_path):
    stub = Stub(tmp_path)
    stub.took = dict.fromkeys(ALL, 1e9)
    stub.ends["correctness"] = Done(0, "")
    assert stub.day.go() == 0
    assert stub.now <= 600
    assert "benchmark" not in stub.ran
    assert (
        "| benchmark | left out | 0 | no time was left |"
        in next((tmp_path / "r").glob("*.md")).read_text()
    )


def test_fewer_tests_where_they_cannot_run_side_by_side(tmp_path):
    commands = []
    for xdist in (True, False):
        stub = Stub(tmp_path, probe=Done(0, json.dumps(HERE | {"xdist": xdist})))
        run = stub.run
        stub.day.run = lambda c, s, run=run: (commands.append(c), run(c, s))[1]
        stub.day.go()
    chosen = [c for c in commands if "tests/gpu" in c]
    assert "-n" in chosen[0]
    assert "gpu and not slow" in chosen[1]


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        (Done(1, "ModuleNotFoundError"), "has no torch"),
        (Done(0, json.dumps(HERE | {"cuda": False, "torch": "2.13.0+cpu"})), "it has 2.13.0+cpu"),
        (Done(0, json.dumps(HERE | {"missing": ["pooch"]})), "lacks pooch"),
    ],
)
def test_an_interpreter_that_does_not_do_is_named_after_a_set_up(tmp_path, capsys, probe, reason):
    stub = Stub(tmp_path, probe=probe)
    assert stub.day.go() == 2
    kinds = [kind for kind, _ in groupby(stub.ran)]
    # the environment that was set up is asked again, where there is one
    assert kinds in (["gpus", "probe", "setup"], ["gpus", "probe", "setup", "probe"])
    assert reason in capsys.readouterr().out


def test_a_command_is_stopped_with_all_that_it_started():
    script = "import subprocess, sys; print('begun'); subprocess.run([sys.executable, '-c', "
    script += "'import time; time.sleep(60)'])"
    done = day.run([sys.executable, "-u", "-c", script], 2)
    assert done == Done(None, "begun\n")


@pytest.mark.slow
def test_the_tests_that_wait_for_a_gpu_pass_on_the_cpu():
    """A few of them, so that they are not found broken on their day."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    few = "ieee and (colour or 37 or 40)"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/gpu", "-p", "no:cacheprovider", "-k", few],
        cwd=day.ROOT,
        env=os.environ | {"SOFTHEBB_FAST_REHEARSAL": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 10


def test_make_gpu_here(tmp_path):
    """The whole command on this machine: where there is no GPU it says so at once."""
    if Day().gpus():
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        ["make", "gpu", f"PYTHON={sys.executable}"],
        cwd=day.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "make gpu is for a machine with a GPU" in done.stdout
