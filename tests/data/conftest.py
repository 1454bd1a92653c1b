from __future__ import annotations

import pytest

from softhebb_fast.data import ImageSet, load, sources


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("SOFTHEBB_FAST_DATA", raising=False)


@pytest.fixture(scope="session")
def mnist() -> ImageSet:
    return load("MNIST", "test", root=sources.EMBEDDED, download=False)
