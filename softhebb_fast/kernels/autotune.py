"""Launch configurations measured on the GPU at hand: ``SOFTHEBB_FAST_AUTOTUNE=1``.

A layer of a new shape is computed in every configuration of the committed table and those near it,
one kernel after the other, and the fastest are kept in the user's cache, so that later processes
need not measure. Another configuration sums in another order: its results differ in rounding.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from triton.errors import TritonError
from triton.testing import do_bench

from softhebb_fast.environment import switched_on
from softhebb_fast.kernels import configs
from softhebb_fast.kernels.configs import Choice, Config
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.measurements import KERNELS, of_device

VARIABLE = "SOFTHEBB_FAST_AUTOTUNE"
# Of a configuration that does not compile or fit.
FAILURES: tuple[type[Exception], ...] = (TritonError, RuntimeError)
Work = Callable[[], object]

_measuring = False


def enabled() -> bool:
    """Whether the user asked for it. Raises ValueError for a value that is neither 0 nor 1."""
    return switched_on(VARIABLE, default=False)


def tuned(learn: Callable) -> Callable:
    """``learn(x, weight, bias, G, c, delta_w, ...)`` in the fastest configurations, if asked.

    What is timed is ``learn`` itself with a ``delta_w`` of its own, which leaves the weight alone.
    """
    signature = inspect.signature(learn)

    @functools.wraps(learn)
    def call(*args, **named):
        if not enabled() or _measuring:
            return learn(*args, **named)
        given = signature.bind(*args, **named).arguments
        x, weight = given["x"], given["weight"]
        if x.device.type != "cuda" or x.numel() == 0:
            return learn(*args, **named)
        measurements = of_device(x.device)
        name = key(x, given["G"], given["c"].name, given.get("epilogue") is not None)
        choice = measurements.get(name)
        if choice is None and not torch.cuda.is_current_stream_capturing():
            given |= {"delta_w": torch.empty_like(weight)}
            choice = measure(functools.partial(learn, **given), x, given["G"], _time)
            measurements.put(name, choice)
        with configs.chosen(choice or {}):
            return learn(*args, **named)

    return call


def key(x: Tensor, G: Geometry, rule: str, pooled: bool) -> str:
    """What a measurement holds for: sizes up to the next power of two, precision, layout."""
    positions, neurons, patch = (
        1 << (n - 1).bit_length() for n in (x.shape[0] * G.pixels, G.K, G.P)
    )
    layout = "channels_last" if G.CHANNELS_LAST else "contiguous"
    rest = f"{layout} {rule}{' pooled' if pooled else ''}"
    numbers = f"{x.dtype} {configs.precision(x.dtype)}".removeprefix("torch.")
    return f"{numbers} positions={positions} neurons={G.GROUPS}x{neurons} patch={patch} {rest}"


def measure(
    work: Work, x: Tensor, G: Geometry, timer: Callable[[Work], float], arch: int | None = None
) -> Choice:
    """The fastest configuration of every kernel, by what ``timer`` says of ``work``.

    Forward and plasticity are chosen first, one after the other; then it is tried if tiles are
    better not shared, and if y is better made by a kernel of its own, and last they stand against
    the one-pass kernel. One that does not compile or fit is passed over.
    """
    arch = configs.architecture(x.device) if arch is None else arch
    choice, fastest = {"one_pass": None}, float("inf")
    with _alone():
        for kernel in KERNELS:
            with configs.chosen({k: c for k, c in choice.items() if k != kernel}):
                found = candidates(kernel, x, G, arch)
            for config in found:
                tried = choice | {kernel: config}
                with configs.chosen(tried), contextlib.suppress(*FAILURES):
                    if (taken := timer(work)) < fastest:
                        fastest, choice = taken, tried
    return choice


def candidates(kernel: str, x: Tensor, G: Geometry, arch: int) -> Sequence[Config | None]:
    """What is tried: the default, the rest of the table, and the neighbours of both."""
    if kernel == "one_pass":
        default = configs.one_pass(G, x.dtype, arch)
        return [] if default is None else _with_neighbours([default])
    if kernel == "activity":
        return [configs.activity(G)]
    positions = x.shape[0] * G.pixels
    if kernel == "last_wave":
        config = configs.plasticity(G, positions, x.dtype, arch)
        return [None] if configs.last_wave(G, positions, config)[0] else []
    default = {
        "forward": lambda: configs.forward(G, positions, x.dtype, arch),
        "plasticity": lambda: configs.plasticity(G, positions, x.dtype, arch),
    }[kernel]()
    return _with_neighbours([default, *configs.listed(kernel, G, x.dtype, arch)])


def _with_neighbours(known: list[Config]) -> list[Config]:
    near = [n for config in known for n in _neighbours(config)]
    return list(dict.fromkeys([*known, *near]))


def _neighbours(c: Config) -> Iterator[Config]:
    """One step away: half or twice the warps or the positions, a pipeline stage more or less."""
    for warps in (c.warps // 2, c.warps * 2):
        if 4 <= warps <= 8:
            yield c._replace(warps=warps)
    for stages in (c.stages - 1, c.stages + 1):
        if 1 <= stages <= 4:
            yield c._replace(stages=stages)
    for positions in (c.BM // 2, c.BM * 2):
        if 16 <= positions <= 256:
            yield c._replace(BM=positions)


def _time(work: Work) -> float:
    return do_bench(work, warmup=20, rep=60, return_mode="median")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    global _measuring
    _measuring = True
    try:
        yield
    finally:
        _measuring = False
