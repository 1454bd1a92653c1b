"""The native kernels once more under sanitizers: a walk through them, and some of their tests."""

from __future__ import annotations

import pytest

from benchmarks.fire import sanitizers

pytestmark = pytest.mark.slow
TESTS = (
    "tests/cpp/test_layer.py",
    "tests/cpp/test_step.py",
    "tests/cpp/test_bf16x3.py",
    "tests/cpp/test_winograd.py",
    "tests/test_ties.py",
)


@pytest.mark.parametrize("name", sanitizers.SANITIZERS)
def test_nothing_is_reported(name):
    if why := sanitizers.why_not():
        pytest.skip(why)
    _, reports = sanitizers.sanitize([name], list(sanitizers.THREADS), 60, 0)
    assert not reports, reports[0][:6000]
    if name == "address":
        folder = sanitizers.FOLDER / name
        tests = ["-m", "pytest", "-p", "no:cacheprovider", *TESTS]
        found, said = sanitizers.checked(name, tests, 2, folder)
        assert not found, said[-6000:]
