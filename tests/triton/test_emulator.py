"""The PTX that Triton emits for sm_80 and sm_90a, run in an emulator, against the definition.

Every launch is checked for races in shared memory and for accesses outside its tensors.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.offline import Launch, launches_go_to
from softhebb_fast import kernels, reference
from tests.tolerances import assert_close, tolerance
from tests.triton.cases import CASES, WIDE, Case

TARGETS = ("sm_80", "sm_90a")
# of tf32 products: operands cut to 10 bits, some hundred products of random sign
TF32 = 4e-3
RUNS = {
    "tf32": ("tf32", CASES["channels_last"]),
    "tf32-contiguous": ("tf32", CASES["groups"]),
    "tf32x3": ("tf32x3", Case(**WIDE, layout="channels_last", options={"wta": "soft"})),
    "ieee": ("ieee", Case(**WIDE, layout="channels_last", bias=True)),
    "ieee-hard_anti": ("ieee", CASES["hard_anti"]),
    "ieee-pre_triangle": ("ieee", CASES["pre_triangle"]),
    "bfloat16": ("bfloat16", Case(**WIDE, layout="channels_last", bias=True)),
    "float16-contiguous": ("float16", CASES["zeros"]),
}


@pytest.fixture
def emulated(emulator, monkeypatch):
    """Calls a function with every launch emulated; gives its result and the reports."""

    def run(target, precision, call):
        reports = []
        torch.use_deterministic_algorithms(True, warn_only=True)  # unwritten memory is NaN
        monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)

        def emulate(launch: Launch):
            args = launch.source()[1]
            reports.append(emulator.run(launch.compile(target), launch.grid, args, stats=True))

        try:
            with launches_go_to(emulate, target):
                return call(), reports
        finally:
            torch.use_deterministic_algorithms(False)

    return run


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", RUNS)
def test_conv2d(emulated, name, target):
    precision, case = RUNS[name]
    dtype = getattr(torch, precision) if "float" in precision else torch.float32
    x, w, bias = case.tensors(dtype)
    precision = "ieee" if "float" in precision else precision
    got, reports = emulated(target, precision, lambda: kernels.conv2d(x, w, bias, **case.conv))
    exact = [None if t is None else t.double() for t in (x, w, bias)]
    want = reference.conv2d(*exact, **case.conv)
    rough = precision == "tf32"
    assert_close(got.u, want.u, TF32 if rough else tolerance(dtype, "u"))
    if rough:  # what follows from the u at hand
        want = update_from(got.u, *exact, case.conv)
    loose = {torch.float32: TF32 if rough else tolerance(dtype, "delta")}
    assert_close(got.delta, want.delta, loose.get(dtype, 2 * tolerance(dtype, "delta")))
    assert [r["races"] for r in reports] == [{}] * len(reports)
    assert len(reports) == 4 + (case.conv["wta"] == "hard_anti" or case.conv["pre_triangle"])


def update_from(u, x, w, bias, options):
    """The update that the definition makes of these pre-activations."""
    y = reference.soft_wta(
        u.double(), options["t_invert"], options["wta"], groups=options["groups"]
    )
    x = reference.pad(x, options["padding"], options["padding_mode"])
    delta = reference.hebbian_update(
        x, y, u.double(), w, stride=options["stride"], groups=options["groups"]
    )
    return reference.SoftHebbOutput(u, delta, None)
