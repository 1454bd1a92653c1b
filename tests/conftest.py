from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from softhebb_fast.backends import why_not

settings.register_profile(
    "fixed", derandomize=True, deadline=None, max_examples=200, database=None, print_blob=True
)
settings.load_profile("fixed")

# Workers share the cores: with more threads than those they wait for each other.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = max(1, (os.cpu_count() or 1) // WORKERS)
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # of other processes
torch.set_num_threads(THREADS)
torch.backends.cudnn.allow_tf32 = False  # float32 is compared as float32, on CUDA too

DEVICES = (
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
)


@pytest.fixture(params=DEVICES, scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A command flushes denormals, for the whole process."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(params=["reference", "cpp"])
def backend(request):
    """A backend of the CPU by name."""
    reason = why_not(request.param, "cpu")
    if reason is not None:
        pytest.skip(f"needs backend {request.param}: {reason}")
    return request.param
