"""A slice of the calls of ``make fire``, and what must be seen of each kind of fault."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("hypothesis")

from benchmarks.fire.calls import batches, verdict
from benchmarks.fire.calls.arguments import Call
from benchmarks.fire.calls.balls import Ball, Sums
from benchmarks.fire.calls.tensors import LAYOUTS, NUMBERS, Drawn, unwritable
from softhebb_fast import backends, functional, optim

SLICE = {"cpp": 60, "parts": 40, "activations": 15, "inits": 25, "invalid layers": 30}
SLICE |= {"others": 60, "invalid others": 60}
MISSING = backends.why_not("cpp", "cpu")
LINEAR = Call("softhebb_linear", "reference", {"x": Drawn((3, 5)), "weight": Drawn((2, 5))}, {})


@pytest.mark.parametrize("family", SLICE)
def test_a_slice(family, tmp_path):
    if MISSING is not None and family in ("cpp", "invalid layers"):
        pytest.skip(MISSING)
    found = batches.batch(family, SLICE[family], 100, False, tmp_path / "now")
    assert not found["faults"], found["faults"][0]
    assert sum(n for *_, n in found["counts"]) >= SLICE[family]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_numbers_are_seeded_and_what_they_are_called(numbers, dtype):
    drawn = Drawn((7, 3), str(dtype).removeprefix("torch."), numbers)
    made = drawn.make()
    assert torch.equal(made.nan_to_num(9), drawn.make().nan_to_num(9))
    assert made.isfinite().all() == (not numbers.startswith("one ") or numbers == "ones")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_move_nothing_but_memory(layout):
    made, plain = Drawn((2, 3, 5, 2), layout=layout).make(), Drawn((2, 3, 5, 2)).make()
    shared = layout in ("expanded", "overlapping")
    assert made.shape == plain.shape
    assert shared or torch.equal(made, plain)
    assert unwritable(Drawn((2, 3, 5, 2), layout=layout)) == (shared or layout == "negated")


def fault(call: Call, monkeypatch, change) -> str:
    """The word for what a function does that is ``change`` of what it should be."""
    true = functional.softhebb_linear
    monkeypatch.setattr(functional, "softhebb_linear", lambda **given: change(true, given))
    with pytest.raises(verdict.Fault) as found:
        verdict.verdict(call)
    return found.value.word


def test_shares_add_up_to_1():
    assert sum(family.share for family in batches.FAMILIES.values()) == pytest.approx(1)


SEEN = {
    "LinearDecay": {"lr": 0.1, "total_steps": 10, "step": 3},
    "ExponentialDecay": {"lr": 0.1, "total_steps": 10, "speed": 1e-20, "divisor": 96.0, "step": 3},
    "Milestones": {"lr": 0.1, "milestones": (1, 2), "factor": 0.1, "warm_up": 0, "step": 3},
}


@pytest.mark.parametrize("name", SEEN)
def test_a_schedule_off_by_little_is_seen(name, monkeypatch):
    call = Call(name, "torch", {}, SEEN[name])
    assert verdict.verdict(call) == "in bound"
    kind = getattr(optim, name)
    true = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, step: true(self, step) * (1 + 1e-13))
    with pytest.raises(verdict.Fault, match="wrong value"):
        verdict.verdict(call)
    exec(verdict.reproduction(call), {})


def test_every_fault_is_seen(monkeypatch):
    def raise_(error):
        raise error

    def touched(true, given):
        out = true(**given)
        given["x"].add_(1)
        return out

    assert verdict.verdict(LINEAR) == "in bound"
    spoilt = LINEAR._replace(spoilt=("x",))
    seen = {
        "wrong value": (LINEAR, lambda true, given: true(**given | {"t_invert": 1.0})),
        "wrong shape": (LINEAR, lambda true, given: true(**given)._replace(delta_w=None)),
        "argument changed": (LINEAR, touched),
        "not refused": (spoilt, lambda true, given: true(**given)),
    }
    for word, (call, change) in seen.items():
        with monkeypatch.context() as patch:
            assert fault(call, patch, change) == word
    for error in (ValueError("bad shape"), RuntimeError("x is bad"), KeyError("x")):
        with monkeypatch.context() as patch:
            change = lambda true, given, error=error: raise_(error)  # noqa: E731
            assert fault(spoilt, patch, change) == "wrong error"
            assert fault(LINEAR, patch, change) == "wrong error"


def test_one_number_off_by_little_is_seen():
    sums = Sums.of(torch.float32)
    ball = Ball(torch.tensor([1.0, math.nan, math.inf]), torch.tensor([1e-6, 0.0, 0.0]), sums)
    good = torch.tensor([1.0, math.nan, math.inf])
    assert verdict.compared("u", good, ball) == "in bound"
    for place, value in ((0, 1.00001), (0, math.nan), (1, 1.0), (2, -math.inf), (2, 1e38)):
        bad = good.clone()
        bad[place] = value
        with pytest.raises(verdict.Fault, match="wrong value"):
            verdict.compared("u", bad, ball)
    for place, value in ((1, math.inf), (2, math.nan)):  # which of them, infinities do not say
        good[place] = value
    assert verdict.compared("u", good, ball, infinite=True) == "in bound"
    for place, value in ((0, math.nan), (1, 1.0), (2, 0.0)):
        bad = good.clone()
        bad[place] = value
        with pytest.raises(verdict.Fault, match="wrong value"):
            verdict.compared("u", bad, ball, infinite=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes to lose")
def test_a_call_that_dies_is_a_fault(monkeypatch):
    monkeypatch.setattr(batches, "verdict", lambda call: os.kill(os.getpid(), 9))
    with pytest.raises(verdict.Fault, match="died of signal 9"):
        batches.tried(LINEAR, apart=True)
    monkeypatch.setattr(batches, "verdict", verdict.verdict)
    assert batches.tried(LINEAR, apart=True) == "in bound"


def test_a_fault_is_shown_as_a_program(tmp_path: Path):
    exec(verdict.reproduction(LINEAR), {})
