"""Launches that may begin before the one ahead of them ends: what their kernels must do first."""

from __future__ import annotations

import re
from contextlib import nullcontext
from functools import partial

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.gpu import budget, training_calls
from benchmarks.gpu.offline import Launch, record
from benchmarks.gpu.ran import all_kernels
from softhebb_fast.kernels import configs, launch
from tests.by_keyword import kernels
from tests.kernels.cases import WIDE, Case
from tests.kernels.test_fake_cuda import CUDA, fake_cuda

WAITS, LETS_GO = "griddepcontrol.wait", "griddepcontrol.launch_dependents"
MEMORY = re.compile(r"\b(ld|st|atom|red|cp\.async)\S*\.(global|v\d)")


def launches(overlaps: bool) -> dict[str, Launch]:
    """One of every kernel."""
    case = Case(**WIDE, layout="channels_last", options={"wta": "hard_anti"})
    x, w, bias = (None if t is None else t.to("meta") for t in case.tensors(torch.float32))
    calls = [
        budget.step("cifar10-1", "tf32", "block"),
        budget.step("cifar10-2", "tf32", "block"),
        budget.step("cifar10-2", "tf32", "features"),
        partial(kernels.conv2d, x, w, bias, **case.conv),
        *training_calls.CALLS.values(),
    ]
    found = [one for call in calls for one in record(call, "sm_90a", overlaps)]
    return {one.name: one for one in found}


@pytest.fixture(scope="module")
def every():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")
        return {overlaps: launches(overlaps) for overlaps in (False, True)}


def test_every_kernel_is_looked_at(every):
    assert every[True].keys() == every[False].keys() == all_kernels().keys()


@pytest.mark.parametrize("name", all_kernels())
def test_kernels_wait_before_they_touch_memory(every, name):
    compiled = every[True][name].compile("sm_90a")
    lines = compiled.asm["ptx"].splitlines()
    waits = [i for i, line in enumerate(lines) if WAITS in line]
    lets_go = [i for i, line in enumerate(lines) if LETS_GO in line]
    touches = [i for i, line in enumerate(lines) if MEMORY.search(line)]
    assert len(waits) == len(lets_go) == 1
    assert waits[0] < lets_go[0] < touches[0]
    assert not any(re.match(r"\s*(@\S+\s+)?(bra|ret)", line) for line in lines[: waits[0]])
    assert compiled.metadata.launch_pdl


@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "gfx942"])
def test_kernels_are_as_they_were_without_it(every, target):
    plain = every[False]["gather"]
    text = plain.compile(target).asm["amdgcn" if target == "gfx942" else "ptx"]
    assert "griddepcontrol" not in text
    assert "launch_pdl" not in launch.options(plain.config, plain.arguments)


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_they_give_the_same_bits(emulated, precision):
    case = Case(**WIDE, layout="channels_last", bias=True)
    x, w, bias = case.tensors(torch.float32)
    call = partial(kernels.conv2d, x, w, bias, **case.conv)
    (one, _), (other, reports) = (
        emulated("sm_90a", precision, call, overlaps=overlaps) for overlaps in (False, True)
    )
    for own, expected in zip(other, one, strict=True):
        assert (own is expected is None) or torch.equal(own, expected)
    assert [r["races"] for r in reports] == [{}] * len(reports)


@pytest.mark.parametrize(
    ("wanted", "architecture", "reason"),
    [
        ("1", 90, None),
        ("1", 120, None),
        ("0", 90, "SOFTHEBB_FAST_OVERLAP=1 would let them"),
        (None, 90, "SOFTHEBB_FAST_OVERLAP=1 would let them"),
        ("", 90, "SOFTHEBB_FAST_OVERLAP=1 would let them"),
        ("1", 89, "compute capability 9.0"),
        ("1", 0, "compute capability 9.0"),  # AMD
    ],
)
def test_launches_overlap_where_it_is_asked_for_and_possible(
    wanted, architecture, reason, monkeypatch
):
    monkeypatch.setattr(configs, "architecture", lambda device: architecture)
    monkeypatch.delenv(launch.OVERLAP, raising=False)
    if wanted is not None:
        monkeypatch.setenv(launch.OVERLAP, wanted)
    found = launch.why_not_overlap(torch.device("cuda"))
    assert found is reason is None or reason in found
    given = []

    class Kernel:
        def __getitem__(self, grid):
            return lambda **arguments: given.append(arguments)

    config = configs.Config(0, 0, 0, 4, 1)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    with fake_cuda():
        launch.launch(Kernel(), (1,), config, x=torch.zeros(3, device=CUDA))
    overlaps = reason is None
    assert ("OVERLAPS" in given[0], "launch_pdl" in given[0]) == (overlaps, overlaps)


def test_launches_on_the_cpu_never_do(monkeypatch):
    monkeypatch.setenv(launch.OVERLAP, "1")
    assert launch.why_not_overlap(torch.device("cpu")) is not None
    monkeypatch.setenv(launch.OVERLAP, "yes")
    with pytest.raises(ValueError, match="SOFTHEBB_FAST_OVERLAP must be 0 or 1; got 'yes'"):
        launch.why_not_overlap(torch.device("cuda"))
