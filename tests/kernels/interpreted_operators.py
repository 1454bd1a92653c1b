"""The operators on the Triton kernels, in the interpreter. Run by ``test_interpreter``.

On CPU tensors the dispatcher would not choose these kernels, so the functions that are registered
for CUDA are called themselves.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from softhebb_fast.kernels import launch
from softhebb_fast.ops import schema
from softhebb_fast.options import Competition, Convolution
from tests.capture_safety import CaptureSafety
from tests.kernels import interpreter_fix  # noqa: F401
from tests.kernels.cases import CASES
from tests.tolerances import TOLERANCES, assert_close

BLOCK = (True, 1.4, "avg", [2, 2], [2, 2], [0, 0], 1)
STEP = (0.1, 0.5, None, None, False)


def results(module: str, name: str) -> list[torch.Tensor]:
    x, weight, bias = CASES["hard_anti"].tensors(torch.float32)
    options = [CASES["hard_anti"].conv[key] for key in (*Convolution._fields, *Competition._fields)]
    if name.startswith("linear"):
        x, weight = (
            x.flatten(1),
            torch.randn(7, x[0].numel(), generator=torch.Generator().manual_seed(1)),
        )
        bias = None
        options = [CASES["hard_anti"].conv[key] for key in Competition._fields]
    if name.endswith("_step_"):
        options = [*STEP, *options]
    if name.startswith("block"):
        options += BLOCK
    out = schema.on(module, name)(x, weight, bias, *options)
    return [*(out if isinstance(out, tuple) else (out,)), weight]


@pytest.fixture(autouse=True)
def _interpreter_apart(monkeypatch):
    """What surrounds a launch is held to be capturable; the interpreter itself reads values."""
    interpret = launch.launch

    def apart(*to, **arguments):
        with _disable_current_modes():
            interpret(*to, **arguments)

    monkeypatch.setattr(launch, "launch", apart)


@pytest.mark.parametrize("name", schema.OPERATORS)
def test_operator_is_the_reference(name):
    expected = results("softhebb_fast.reference", name)
    with CaptureSafety():
        found = results("softhebb_fast.kernels", name)
    for own, other in zip(found, expected, strict=True):
        assert_close(own, other, TOLERANCES["float32_delta_w"])
