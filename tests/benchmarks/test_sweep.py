"""What the sweep of configurations tries, how it reads the profiler, if its tables are of today."""

from __future__ import annotations

import csv

import pytest

pytest.importorskip("triton")

from benchmarks.gpu import sweep
from benchmarks.gpu.sweep import KEY, PRECISIONS, TUNED, Step, key, launches, medians, plan
from softhebb_fast.kernels.configs import Config

TARGET = "sm_90a"


@pytest.fixture(autouse=True)
def _precision_is_restored(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "ieee")


def test_medians_leave_the_first_run_out():
    two = [("forward", 90.0), ("apply", 9.0), ("forward", 1.0), ("apply", 2.0)]
    other = [("one_pass", 80.0), ("apply", 8.0), ("one_pass", 5.0), ("apply", 6.0)]
    last_of_both = [("forward", 3.0), ("apply", 2.0)], [("one_pass", 5.0), ("apply", 7.0)]
    assert medians([*two, *last_of_both[0], *other, *last_of_both[1]], runs=3) == [
        {"forward": 2.0, "apply": 2.0},
        {"one_pass": 5.0, "apply": 6.5},
    ]


def test_every_kernel_is_tried_in_several_configurations(monkeypatch):
    monkeypatch.setattr(sweep, "NETS", {n: sweep.NETS[n] for n in ("cifar10-1@10", "mnist-mlp")})
    monkeypatch.setattr(sweep, "PRECISIONS", ("tf32",))
    steps = list(plan(TARGET))
    assert [s for s in steps if not s.choice] == [Step(n, "tf32") for n in sweep.NETS]
    tried = {k: {dict(s.choice).get(k) for s in steps} - {None} for k in TUNED}
    assert min(map(len, tried.values())) > 3
    for step in (steps[1], steps[-1]):
        made = {launch.name: launch.config for launch in launches(step, TARGET)}
        assert {k: c for k, c in made.items() if k in TUNED} == {
            k: c for k, c in step.choice if c is not None
        }


def test_the_key_of_a_launch():
    choice = (("forward", Config(64, 128, 32, 4, 3)), ("one_pass", None))
    prepare, forward, *_ = launches(Step("cifar10-2@10", "tf32", choice), TARGET)
    assert prepare.name == "prepare"
    assert key(Step("cifar10-2@10", "tf32"), forward) == (
        *("cifar10-2@10", "tf32", "forward", "64x128x32", 4, 3, ""),
    )


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_measured_configurations_are_those_chosen():
    """Where one is chosen anew, measure it, or empty its times."""
    chosen = [
        tuple(map(str, key(step, launch)))
        for layer in sweep.NETS
        for precision in PRECISIONS
        for step in [Step(layer, precision)]
        for launch in launches(step, TARGET)
    ]
    assert [tuple(row[n] for n in KEY) for row in read(sweep.MEASURED)] == chosen


def test_the_sweep_holds_what_was_measured():
    """To 3 %: a kernel of several steps was timed in each."""
    swept = {tuple(row[n] for n in KEY): float(row["us"]) for row in read(sweep.SWEEP)}
    for row in read(sweep.MEASURED):
        if row["us"] and row["kernel"] in TUNED:
            assert float(row["us"]) == pytest.approx(swept[tuple(row[n] for n in KEY)], rel=0.03)
