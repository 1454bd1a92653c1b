"""The kernels in Triton's interpreter far from the order of 1. Run by ``test_interpreter``."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from softhebb_fast.kernels import configs, launch, tables
from tests.by_keyword import kernels, reference
from tests.kernels import interpreter_fix  # noqa: F401
from tests.kernels.in_turn import in_turn
from tests.magnitudes import ACTIVITIES, LARGE, LONG, compare, shares, small_differences
from tests.strategies import extremes
from tests.tolerances import TOLERANCES

SLOW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PATHS = ("y in forward", "one_pass", "y of u that is read back", "y made later")
ABOVE, BELOW, NOTHING = float("inf"), -float("inf"), float("nan")
BIASES = [
    [0.0] * 20 + [BELOW] * 20,
    [BELOW, 0.0, 1.0],
    [BELOW] * 40,
    [0.0] * 39 + [NOTHING],
    [0.0] * 20 + [ABOVE] + [BELOW] * 19,
]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    tile = configs.Config(16, 16, 16, 4, 1)
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3")  # in float32, in the interpreter
    monkeypatch.setattr(configs, "TABLE", {key: ((tile, 0, tables.ALL),) for key in configs.TABLE})
    monkeypatch.setattr(configs, "ONE_TAP", dict.fromkeys(configs.ONE_TAP, tile))
    tiles = {key: c._replace(BM=16) for key, c in configs.ONE_PASS.items()}
    monkeypatch.setattr(configs, "ONE_PASS", tiles)


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Every way from u to y; the neurons of all but the first are in several tiles."""
    straight = launch.launch

    def launched(kernel, grid, config, **arguments):
        counters = getattr(arguments.get("prep"), "row_counters", None)
        waits = counters if kernel.__name__ == "forward_kernel" else None
        in_turn(waits, lambda: straight(kernel, grid, config, **arguments))

    if request.param != "one_pass":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
        monkeypatch.setattr(configs, "processors", lambda device: 132)
        monkeypatch.setattr(launch, "launch", launched)
        held = request.param == "y in forward"
        monkeypatch.setattr(configs, "u_in_registers", lambda *_: held)
    later = {"activity": configs.Config(16, 16, 0, 4, 1)}
    with configs.chosen(later) if request.param == "y made later" else nullcontext():
        yield request.param


@pytest.mark.parametrize("tied", [1, 2, 3])
@pytest.mark.parametrize(("size", "t", "dtype"), LARGE)
def test_winners_share_alike(path, size, t, dtype, tied):
    won, lost = shares(kernels, 40, tied, size, t, dtype)
    assert won == ([1 / tied] * tied if tied < 3 else pytest.approx([1 / 3] * 3, rel=5e-7))
    assert lost == [0.0] * (40 - tied)


@pytest.mark.parametrize(("size", "dtype"), LONG)
def test_small_differences_of_a_large_u(path, size, dtype):
    assert small_differences(kernels, 40, size, dtype) < TOLERANCES["float32_u"]


@pytest.mark.parametrize("bias", BIASES)
def test_neurons_that_are_not_finite(path, bias):
    """Below everything they have y = 0; elsewhere, and where all are there, y is NaN."""
    x, w, bias = torch.ones(3, 2), torch.ones(len(bias), 2), torch.tensor(bias)
    want = reference.linear(x, w, bias, ACTIVITIES, wta="soft", t_invert=2.0).statistic
    got = kernels.linear(x, w, bias, ACTIVITIES, wta="soft", t_invert=2.0).statistic
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("one_pass", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_against_the_oracle(one_pass, dtype, monkeypatch):
    if not one_pass:
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)

    @SLOW
    @given(case=extremes(dtype, lebesgue=False))
    def run(case):
        compare(kernels, case, dtype)

    run()
