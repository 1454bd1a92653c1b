"""The kernels in Triton's interpreter at extreme magnitudes. Run by ``test_interpreter``."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from softhebb_fast.kernels import configs, tables
from tests.by_keyword import kernels
from tests.kernels import interpreter_fix  # noqa: F401
from tests.magnitudes import compare
from tests.strategies import extremes

SLOW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    tile = configs.Config(16, 16, 16, 4, 1)
    monkeypatch.setattr(configs, "TABLE", {key: ((tile, 0, tables.ALL),) for key in configs.TABLE})
    monkeypatch.setattr(configs, "ONE_TAP", dict.fromkeys(configs.ONE_TAP, tile))


@pytest.mark.parametrize("one_pass", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_against_the_oracle(one_pass, dtype, monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3")
    if not one_pass:
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)

    @SLOW
    @given(case=extremes(dtype, lebesgue=False))
    def run(case):
        compare(kernels, case, dtype)

    run()
