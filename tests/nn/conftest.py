from __future__ import annotations

import pytest

from tests.nn.layers import LAYERS


@pytest.fixture(params=LAYERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param
