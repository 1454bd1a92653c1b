"""The minutes that a GPU is there, with commands that only pretend to run."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import day, run, stress
from benchmarks.gpu.day import Day, Done, usable
from benchmarks.gpu.parts import STEPS, Part, parts, rehearsal, sanitizer
from softhebb_fast.bench.cases import select
from softhebb_fast.bench.providers import choose

HERE = {
    "missing": [],
    "cuda": True,
    "name": "NVIDIA H100 80GB HBM3",
    "versions": "Python 3.12.3, torch 2.11.0+cu130, Triton 3.6.0",
    "xdist": True,
}
PLAN = [
    Part("stress", ("stress",), 60, wrong=(1, None), table="stress.csv"),
    Part("racecheck", ("racecheck",), 60, wrong=(99,), needs="compute-sanitizer"),
    Part("steps", ("steps",), 60, wrong=(1,)),
]


class Stub:
    """A machine: what each command comes to and how long it takes, and which were run."""

    def __init__(self, out: Path, tools=("compute-sanitizer",), minutes=9.0, **ends) -> None:
        self.now, self.ran, self.ends, self.took = 0.0, [], ends, {}
        self.day = Day(
            out, minutes, self.run, lambda n: n if n in tools else None, lambda: self.now
        )

    def run(self, command, seconds) -> Done:
        name = command[0]
        self.ran.append(name)
        self.now += min(seconds, self.took.get(name, 1.0))
        if name == "stress":
            self.day.out.mkdir(exist_ok=True)
            (self.day.out / "stress.csv").write_text("situation,outcome\none | stream,ok\n")
        return self.ends.get(name, Done(0, "compiling\n1 passed\n"))

    def go(self) -> int:
        return self.day.go(PLAN, "NVIDIA H100, torch 2.11")

    @property
    def summary(self) -> str:
        return (self.day.out / "summary.md").read_text()


def test_all_is_well(tmp_path):
    stub = Stub(tmp_path / "new" / "folder")
    assert stub.go() == 0
    assert stub.ran == ["stress", "racecheck", "steps"]
    assert stub.summary.startswith("# NVIDIA H100, torch 2.11\n")
    assert "| stress | passed | 1 | 1 passed |" in stub.summary
    assert "| situation | outcome |\n|---|---|\n| one / stream | ok |" in stub.summary


@pytest.mark.parametrize(
    ("name", "end", "outcome", "status"),
    [
        ("stress", Done(1, "other bits"), "failed", 1),
        ("stress", Done(None, "...."), "failed", 1),  # what hangs is wrong
        ("racecheck", Done(99, "ERROR SUMMARY: 3 errors"), "failed", 1),
        ("racecheck", Done(1, "Device not supported"), "left out", 0),  # the tool cannot work here
        ("racecheck", Done(None, ""), "left out", 0),
        ("steps", Done(1, "failed the gate"), "failed", 1),
        ("steps", Done(None, "cifar10/step/b10 ..."), "left out", 0),
    ],
)
def test_what_is_wrong_is_said_and_the_others_go_on(tmp_path, name, end, outcome, status):
    stub = Stub(tmp_path, **{name: end})
    assert stub.go() == status
    assert stub.ran == ["stress", "racecheck", "steps"]
    found = {result.name: result.outcome for result in stub.day.results}
    assert found == dict.fromkeys(stub.ran, "passed") | {name: outcome}
    how = "cut at 60 s" if end.status is None else f"exit status {end.status}"
    assert f"| {name} | {outcome} | 1 | {how}" in stub.summary


def test_a_missing_tool_is_said(tmp_path):
    stub = Stub(tmp_path, tools=())
    assert stub.go() == 0
    assert stub.ran == ["stress", "steps"]
    reason = "compute-sanitizer is not on the PATH and in no CUDA toolkit"
    assert f"| racecheck | left out | 0 | {reason} |" in stub.summary


def test_a_tool_of_the_toolkit_is_found_and_called_by_its_path(tmp_path, monkeypatch):
    path = tmp_path / "bin" / "compute-sanitizer"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\necho $@; echo ========= ERROR SUMMARY: 3 errors; exit 99\n")
    path.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert day.tool("compute-sanitizer") == str(path)
    assert day.tool("no-such-tool") is None
    out = tmp_path / "out"
    found = Day(out).do(sanitizer("python", "racecheck"))
    assert (found.outcome, found.note) == (
        "failed",
        "exit status 99: ========= ERROR SUMMARY: 3 errors",
    )
    said = (out / "log.txt").read_text()
    assert f"$ env PYTORCH_NO_CUDA_MEMORY_CACHING=1 {path} --tool racecheck" in said
    assert "--error-exitcode 99 python -m pytest tests/gpu/test_operators.py -m gpu -k" in said


def test_the_day_ends_in_time(tmp_path):
    stub = Stub(tmp_path, minutes=1.5)
    stub.took = {"stress": 1e9, "racecheck": 1e9}
    assert stub.go() == 0
    assert stub.now <= 90
    assert stub.ran == ["stress", "racecheck"]
    assert "| steps | left out | 0 | no time was left |" in stub.summary


def test_the_summary_is_there_while_parts_run(tmp_path):
    stub = Stub(tmp_path)
    run = stub.day.run

    def look(command, seconds):
        if command[0] == "steps":
            assert "racecheck | passed" in stub.summary
        return run(command, seconds)

    stub.day.run = look
    stub.go()
    assert len(stub.ran) == 3


def test_the_parts_are_there():
    """Every script, test, case and provider that the day names exists."""
    cuda = torch.device("cuda")
    plan = parts(sys.executable, Path("out"), Path("data"), True)
    first = ["device", "stress", "changed tests", "run", "steps", "seeds"]
    assert [part.name for part in plan[:6]] == first
    for part in plan:
        module = part.command[part.command.index("-m") + 1]
        if module.startswith("benchmarks."):
            assert Path(day.ROOT, *module.split(".")).with_suffix(".py").is_file()
    for provider in choose(STEPS):
        cases = select(["cifar10/step/b10", "cifar10/step/b100"])
        assert all(provider.why_not(case, cuda) is None for case in cases)
    assert sum(part.seconds for part in plan) > 60 * day.MINUTES  # each has a limit of its own


def test_less_where_tests_cannot_run_side_by_side():
    commands = {
        xdist: next(p.command for p in parts("python", Path("o"), None, xdist) if "tests" in p.name)
        for xdist in (True, False)
    }
    assert "-n" in commands[True]
    assert "gpu and not slow" in commands[False]


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        (Done(1, "ModuleNotFoundError"), "has no torch"),
        (Done(0, json.dumps(HERE | {"cuda": False})), "a torch for a GPU here, it has Python 3.12"),
        (Done(0, json.dumps(HERE | {"missing": ["pooch"]})), "lacks pooch"),
    ],
)
def test_an_interpreter_that_does_not_do_is_named(probe, reason):
    with pytest.raises(RuntimeError, match=reason):
        usable(lambda command, seconds: probe, lambda name: name)
    python, here = usable(lambda command, seconds: Done(0, json.dumps(HERE)), lambda name: name)
    assert here == HERE
    assert python.endswith("python")


def test_a_command_is_stopped_with_all_that_it_started(tmp_path):
    script = "import subprocess, sys; print('begun', flush=True); "
    script += "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    day = Day(tmp_path)
    assert day.run([sys.executable, "-u", "-c", script], 2) == Done(None, "begun\n")
    assert day.run([sys.executable, "-c", "print('next')"], 20) == Done(0, "next\n")
    assert re.search(r"\$ .*begun\n\n\$ .*next\n$", (tmp_path / "log.txt").read_text(), re.DOTALL)


def test_a_situation_that_locks_up_is_a_row_and_the_next_ones_go_on(monkeypatch):
    answers = iter(
        [(5, 0), (7, 2), "locked up", (3, 0), "RuntimeError: trap", (2, 0), (1, 0), (1, 0)]
    )
    killed = []

    class Process:
        def start(self):
            pass

        def kill(self):
            killed.append(len(killed))

        def join(self, seconds):
            pass

    class Pipe:
        def poll(self, seconds):
            self.answer = next(answers)
            return self.answer != "locked up"

        def recv(self):
            return self.answer

        def close(self):
            pass

    class Context:
        def Pipe(self):
            return Pipe(), Pipe()

        def Process(self, **_):
            return Process()

    monkeypatch.setattr(stress.multiprocessing, "get_context", lambda name: Context())
    outcomes = [row["outcome"] for row in stress.rows("cpu")]
    assert outcomes == [
        "ok",
        "other bits",
        "locked up",
        "ok",
        "RuntimeError: trap",
        "ok",
        "ok",
        "ok",
    ]
    assert len(killed) == 3


def test_the_stress_is_rehearsed(tmp_path):
    table = tmp_path / "stress.csv"
    command = [sys.executable, "-m", "benchmarks.gpu.stress", "--device", "cpu"]
    subprocess.run([*command, "--csv", str(table)], cwd=day.ROOT, check=True)
    with open(table, newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["situation"] for row in found] == [s.name for s in stress.SITUATIONS]
    assert {row["outcome"] for row in found} == {"ok"}


def test_phases_of_a_run_by_their_rows():
    rows = [
        {"phase": "hebbian", "layer": "1", "seconds": "0.5"},
        {"phase": "hebbian", "layer": "1", "seconds": "2.5"},
        {"phase": "probe", "seconds": "3"},
    ]
    assert run.phases(rows) == "hebbian 1 0.50 to 2.50; probe 3.00 to 3.00"


@pytest.mark.slow
def test_the_tests_that_wait_for_a_gpu_pass_on_the_cpu(tmp_path):
    """A few of them, so that they are not found broken on their day."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    plan = parts(sys.executable, tmp_path, None, False)
    for part in (part for part in plan if part.name.endswith("tests")):
        done = subprocess.run(
            rehearsal(part).command,
            cwd=day.ROOT,
            env=os.environ | {"SOFTHEBB_FAST_REHEARSAL": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 4


def test_make_gpu_here(tmp_path):
    """The whole command on this machine: where there is no GPU it says so at once."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        ["make", "gpu", f"PYTHON={sys.executable}", f"OUT={tmp_path}"],
        cwd=day.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "make gpu is for a machine with a GPU" in done.stdout
