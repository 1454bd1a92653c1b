"""The Triton kernels on CPU tensors, in Triton's interpreter: TRITON_INTERPRET=1 is set before."""

from __future__ import annotations

from typing import Any

from softhebb_fast import kernels
from softhebb_fast.functional import learning
from softhebb_fast.kernels import configs, launch, tables
from tests.kernels import interpreter_fix  # noqa: F401
from tests.kernels.in_turn import in_turn


def prepare() -> None:
    """Let the public functions run the kernels, with tiles that suit small layers."""
    tile = configs.Config(32, 32, 32, 4, 1)
    configs.TABLE = {key: ((tile, 0, tables.ALL),) for key in configs.TABLE}
    configs.ONE_TAP = dict.fromkeys(configs.ONE_TAP, tile)
    configs.IN_TILE = dict.fromkeys(configs.IN_TILE, tile)
    configs.SUMMED = {}
    configs.ONE_PASS = {key: c._replace(BM=32) for key, c in configs.ONE_PASS.items()}
    configs.processors = lambda device: 132
    learning.resolve = lambda *_: kernels
    straight = launch.launch

    def launched(kernel: Any, grid: Any, config: Any, **arguments: Any) -> None:
        prep = arguments.get("prep")
        waits = kernel.__name__ == "forward_kernel"
        counters = getattr(prep, "row_counters", None) if waits else None
        in_turn(counters, lambda: straight(kernel, grid, config, **arguments))

    launch.launch = launched
