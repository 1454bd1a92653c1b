"""The layers for those who use pytest-benchmark.

    pytest benchmarks --benchmark-only
    pytest benchmarks --benchmark-only --benchmark-compare

Providers are those of ``softhebb-fast bench``, here in one process and one after the other; what
does not pass the gate fails. Use ``-k cpp`` or ``-k layer2`` to choose.
"""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.bench.cases import select
from softhebb_fast.bench.inputs import inputs
from softhebb_fast.bench.providers import PROVIDERS
from softhebb_fast.bench.worker import complaint

CASES = select(["cifar10/layer?/b10", "mnist/layer?/b32", "mnist-mlp/layer1/b32"])
NAMES = ("tuned", "cpp", "triton", "library", "products")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_layer(benchmark, case, name):
    provider = PROVIDERS[name]
    reason = provider.why_not(case, DEVICE)
    if reason is not None:
        pytest.skip(f"{name} {reason}")
    benchmark.group = case.name
    torch.set_flush_denormal(True)
    provider.set_precision()
    with torch.no_grad():
        if not provider.partial:
            assert complaint(case, provider, DEVICE) is None
        call = provider.make(case, inputs(case, DEVICE, provider.layout))
        benchmark(_finished, call)


def _finished(call) -> None:
    call()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
