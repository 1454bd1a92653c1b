"""The emitted PTX far from the order of 1, where u is exact: y, and D against the oracle."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from softhebb_fast.kernels import configs
from tests.by_keyword import kernels
from tests.magnitudes import LARGE, LONG, compare, shares, small_differences
from tests.strategies import Extreme
from tests.tolerances import TOLERANCES

TARGETS = ("sm_80", "sm_90a")
SMALL = {"x_shape": (2, 2, 4, 4), "weight_shape": (16, 2, 3, 3)}
TILES = {"x_shape": (1, 16, 4, 3), "weight_shape": (150, 16, 1, 1)}  # of neurons, two at least
COMPETING = {"wta": "soft_anti", "lebesgue_p": 2.0}
RUNS = {
    "tiles-large": ("tf32x3", TILES, 1e2, 40, -10),
    "one_pass-large": ("tf32", SMALL, 1e2, 40, -10),
    "one_pass-hot": ("tf32", SMALL, 1e30, 3, -3),
    "one_pass-cold": ("tf32x3", SMALL, 1e-20, 60, -5),
    "tiles-hot": ("ieee", TILES, 1e30, 3, -3),
    "tiles-bfloat16": ("bfloat16", TILES, 1e2, 40, -10),
    "pre_triangle-bfloat16": ("bfloat16", SMALL | {"pre_triangle": True}, 1e2, 40, -10),
    "tiles-tiny": ("ieee", TILES, 1e30, -50, -30),
}
PATHS = ("y in forward", pytest.param("y made later", marks=pytest.mark.slow))


class Emulated:
    """The kernels' functions, emulated for a target."""

    def __init__(self, emulated, target: str, precision: str = "tf32x3") -> None:
        self.to = emulated, target, precision

    def __getattr__(self, name: str):
        emulated, *to = self.to
        call = getattr(kernels, name)
        return lambda *given, **options: emulated(*to, lambda: call(*given, **options))[0]


@pytest.fixture(params=PATHS)
def path(request):
    chosen = {"activity": configs.Config(16, 32, 0, 4, 1)} if "later" in request.param else {}
    with configs.chosen(chosen):
        yield request.param


def some(cases):
    return [pytest.param(*case, marks=[pytest.mark.slow] * (i > 0)) for i, case in enumerate(cases)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("neurons", [150, 20])
@pytest.mark.parametrize(("size", "t", "dtype"), some(LARGE))
def test_winners_share_alike(path, emulated, neurons, size, t, dtype, target):
    """Two tiles of neurons or, on sm_90a, one pass."""
    module = Emulated(emulated, target, "tf32x3" if dtype == torch.float32 else "ieee")
    for tied in (1, 2, 3):
        won, lost = shares(module, neurons, tied, size, t, dtype)
        assert won == ([1 / tied] * tied if tied < 3 else pytest.approx([1 / 3] * 3, rel=5e-7))
        assert lost == [0.0] * (neurons - tied)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("neurons", [150, 20])
@pytest.mark.parametrize(("size", "dtype"), some(LONG))
def test_small_differences_of_a_large_u(path, emulated, neurons, size, dtype, target):
    module = Emulated(emulated, target, "tf32x3" if dtype == torch.float32 else "ieee")
    assert small_differences(module, neurons, size, dtype) < TOLERANCES["float32_u"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "name", [n if i < 2 else pytest.param(n, marks=pytest.mark.slow) for i, n in enumerate(RUNS)]
)
def test_against_the_oracle(emulated, name, target, monkeypatch):
    precision, shapes, t, *exponents = RUNS[name]
    narrow = precision == "bfloat16"
    options = COMPETING | {"t_invert": t} | {k: v for k, v in shapes.items() if "shape" not in k}
    if name.startswith("pre_triangle"):
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    case = Extreme(shapes["x_shape"], shapes["weight_shape"], True, options, *exponents, 5)
    module = Emulated(emulated, target, "ieee" if narrow else precision)
    compare(module, case, torch.bfloat16 if narrow else torch.float32)
