"""The emitted PTX at extreme magnitudes, where u is exact, against the float64 oracle."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from softhebb_fast.kernels import configs
from tests.by_keyword import kernels
from tests.magnitudes import compare
from tests.strategies import Extreme

SMALL = {"x_shape": (2, 2, 4, 4), "weight_shape": (16, 2, 3, 3)}
TILES = {"x_shape": (1, 16, 4, 3), "weight_shape": (150, 16, 1, 1)}  # of neurons, two at least
COMPETING = {"wta": "soft_anti", "lebesgue_p": 2.0}
RUNS = {
    "one_pass-large": ("tf32", SMALL, 1e2, 40, -10),
    "one_pass-hot": ("tf32", SMALL, 1e30, 3, -3),
    "one_pass-cold": ("tf32x3", SMALL, 1e-20, 60, -5),
    "tiles-large": ("tf32x3", TILES, 1e2, 40, -10),
    "tiles-hot": ("ieee", TILES, 1e30, 3, -3),
    "tiles-bfloat16": ("bfloat16", TILES, 1e2, 40, -10),
    "pre_triangle-bfloat16": ("bfloat16", SMALL | {"pre_triangle": True}, 1e2, 40, -10),
    "tiles-tiny": ("ieee", TILES, 1e30, -50, -30),
}


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", RUNS)
def test_against_the_oracle(emulated, name, target, monkeypatch):
    precision, shapes, t, *exponents = RUNS[name]
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    options = COMPETING | {"t_invert": t} | {k: v for k, v in shapes.items() if "shape" not in k}
    if name.startswith("pre_triangle"):
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    case = Extreme(shapes["x_shape"], shapes["weight_shape"], True, options, *exponents, 5)

    class Emulated:
        @staticmethod
        def conv2d(*tensors, **options):
            ieee = "ieee" if dtype == torch.bfloat16 else precision
            call = lambda: kernels.conv2d(*tensors, **options)  # noqa: E731
            return emulated(target, ieee, call)[0]

    compare(Emulated, case, dtype)
