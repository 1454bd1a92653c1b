"""Launch configurations side by side on the GPU at hand: those of ``configs`` come from here.

    python -m benchmarks.gpu.sweep     # measure gpu_sweep.csv and gpu_measured.csv, some minutes
    python -m benchmarks.gpu.sweep --layers 'cifar10-3@*' --precisions tf32 --out FOLDER

All that autotuning would try, y in a kernel of its own included, is compiled first, in processes
side by side. Then learning steps run
six times under the profiler: a kernel's time is the median of all runs but the first.
``gpu_measured.csv`` is of the configurations that ``configs`` chooses, beside the library's product
of that shape and precision: ``torch.mm`` of patches that lie unfolded in memory, and ``F.conv2d``
or its weight gradient. The committed sweep has tiles that were tried by hand, forward of stl10-4
when a program still took a run of tiles, all of forward without y, tiles of several taps that were
loaded in other ways, and plasticity when it was the product alone, of two bfloat16 terms in tf32
and three in tf32x3.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import product, zip_longest
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from triton.testing import do_bench

from benchmarks.gpu.budget import COMPETITION
from benchmarks.gpu.layers import LAYERS
from benchmarks.gpu.offline import ARCHITECTURES, Launch, record, resources
from softhebb_fast import kernels
from softhebb_fast.files import write_csv
from softhebb_fast.kernels import configs
from softhebb_fast.kernels.autotune import candidates
from softhebb_fast.kernels.configs import Config
from softhebb_fast.options import Convolution, Rate

RESULTS = Path(__file__).parents[1] / "results"
SWEEP = RESULTS / "gpu_sweep.csv"
MEASURED = RESULTS / "gpu_measured.csv"
NETS = LAYERS | {"mnist-mlp": ((32, 784), (2000, 784), 0)}
TUNED = ("forward", "plasticity", "one_pass")
PRECISIONS = ("tf32", "bfloat16", "tf32x3", "bf16x6", "ieee")
EMULATED = ("tf32x3", "bf16x6")  # which the library does not have
RUNS = 6
KEY = ("layer", "precision", "kernel", "tile", "warps", "stages", "splits")
TOOK = ("registers", "spills", "shared")
FIELDS = (*KEY, "us", *TOOK)
COLUMNS = (*KEY, "us", "mm_us", "conv_us")


class Step(NamedTuple):
    """A learning step of a layer in chosen configurations; the usual ones where none is named."""

    layer: str
    precision: str
    choice: tuple[tuple[str, Config | None], ...] = ()


def plan(
    target: str, layers: Sequence[str] | None = None, precisions: Sequence[str] | None = None
) -> Iterator[Step]:
    """The usual step of every layer and precision, then those that autotuning would try."""
    for layer, precision in product(layers or NETS, precisions or PRECISIONS):
        usual = Step(layer, precision)
        yield usual
        x, _ = tensors(layer, precision, "meta")
        made = {launch.name: launch for launch in launches(usual, target)}  # names the precision
        G = made.get("forward", made.get("one_pass")).constants["G"]
        arch = ARCHITECTURES[target]
        forward, plasticity, one_pass = (candidates(k, x, G, arch) for k in TUNED)
        if "forward" in made:
            yield Step(layer, precision, (("activity", configs.activity(G)),))
            if made["plasticity"].constants["WHOLE"]:
                yield Step(layer, precision, (("last_wave", None),))
        for config in one_pass:
            yield Step(layer, precision, (("one_pass", config),))
        for f, p in zip_longest(forward, plasticity):
            given = {"forward": f or forward[0], "plasticity": p or plasticity[0], "one_pass": None}
            yield Step(layer, precision, tuple(given.items()))


def tensors(layer: str, precision: str, device: str) -> tuple[Tensor, Tensor]:
    """An input and a weight, channels last."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    x_shape, w_shape, _ = NETS[layer]
    x = torch.randn(x_shape, device=device).relu_().to(dtype)
    w = (torch.randn(w_shape, device=device) * 5 / w_shape[1] ** 0.5).to(dtype)
    if x.dim() == 4:
        x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
    return x, w


def run(step: Step, x: Tensor, w: Tensor) -> None:
    """The step; its rate is so small that the weights stay what they are."""
    narrow = step.precision == "bfloat16"
    os.environ["SOFTHEBB_FAST_PRECISION"] = "ieee" if narrow else step.precision
    rate = Rate(1e-6)
    with configs.chosen(dict(step.choice)):
        if x.dim() == 2:
            kernels.linear_step_(x, w, None, rate, COMPETITION)
        else:
            convolution = Convolution(padding=(NETS[step.layer][2],) * 2)
            kernels.conv2d_step_(x, w, None, rate, convolution, COMPETITION)


def launches(step: Step, target: str) -> list[Launch]:
    return record(lambda: run(step, *tensors(step.layer, step.precision, "meta")), target)


def key(step: Step, launch: Launch) -> tuple:
    """What stands in the columns KEY."""
    splits = launch.constants.get("SPLITS", "")
    return (*step[:2], launch.name, launch.tile, launch.config.warps, launch.config.stages, splits)


def compiled(step: Step, target: str, runs: bool = True) -> list[dict] | None:
    """The launches of a step and what their machine code takes; None if one does not run."""
    try:
        if runs:
            run(step, *tensors(step.layer, step.precision, "cuda"))
            torch.cuda.synchronize()
    except Exception as error:
        print(*step, f"{type(error).__name__}: {str(error)[:80]}")
        return None
    rows = []
    for launch in launches(step, target):
        found = resources(launch.compile(target), target)
        rows.append(dict(zip(KEY, key(step, launch), strict=True)) | {n: found[n] for n in TOOK})
    return rows


def medians(events: Sequence[tuple[str, float]], runs: int = RUNS) -> list[dict[str, float]]:
    """What each kernel of every step takes, from the names and times of launches in their order.

    A step ends with ``apply`` and was run so often; its first run is left out.
    """
    steps: list[dict[str, float]] = [{}]
    for name, taken in events:
        steps[-1][name] = taken
        if name == "apply":
            steps.append({})
    warm = [steps[i + 1 : i + runs] for i in range(0, len(steps) - 1, runs)]
    return [{name: median(s[name] for s in some) for name in some[0]} for some in warm]


def timed(steps: Sequence[Step]) -> list[dict[str, float]]:
    """``medians`` of steps of one layer and precision on the device, in microseconds."""
    x, w = tensors(steps[0].layer, steps[0].precision, "cuda")
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for step in steps:
            for _ in range(RUNS):
                run(step, x, w)
        torch.cuda.synchronize()
    ours = {f"{name}_kernel" for name in (*TUNED, "activity", "reduce_splits", "apply")}
    events = sorted(found.events(), key=lambda e: e.time_range.start)
    events = [e for e in events if e.device_type.name == "CUDA" and e.name in ours]
    return medians([(e.name.removesuffix("_kernel"), e.time_range.elapsed_us()) for e in events])


def library(layer: str, precision: str) -> dict[str, tuple[float, float]]:
    """Microseconds that the library's forward and plasticity take, as products and convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    x, w = tensors(layer, precision, "cuda")
    if x.dim() == 2:
        x, w = x[:, :, None, None], w[:, :, None, None]
    x = F.pad(x, (NETS[layer][2],) * 4)
    u = F.conv2d(x, w)
    patches = F.unfold(x, w.shape[2:]).transpose(1, 2).flatten(0, 1).contiguous()
    y, filters = u.permute(0, 2, 3, 1).flatten(0, 2), w.flatten(1)
    rest = (None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1, (False, True, False))

    def time(work: Callable[[], object]) -> float:
        return round(1e3 * do_bench(work, warmup=5, rep=15, return_mode="median"), 1)

    gradient = torch.ops.aten.convolution_backward
    return {
        "forward": (time(lambda: patches @ filters.T), time(lambda: F.conv2d(x, w))),
        "plasticity": (time(lambda: y.T @ patches), time(lambda: gradient(u, x, w, *rest))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="+", default=["*"], help="patterns of their names")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--out", type=Path, default=SWEEP.parent, help="folder of both tables")
    parser.add_argument("--device", default="cuda", help="cpu compiles, and times nothing")
    options = parser.parse_args()
    layers = [n for n in NETS if any(fnmatchcase(n, p) for p in options.layers)]
    cuda = options.device == "cuda"
    arch = configs.architecture(torch.device(options.device))
    target = next(t for t, number in ARCHITECTURES.items() if number == arch)
    steps = list(plan(target, layers, options.precisions))
    with multiprocessing.get_context("spawn").Pool(maxtasksperchild=80) as pool:
        found = pool.starmap(compiled, [(step, target, cuda) for step in steps], 1)
    if not cuda:
        print(f"{len(steps)} steps, {sum(rows is not None for rows in found)} compiled")
        return
    rows = dict(zip(steps, found, strict=True))
    sweep, measured = {}, []
    for layer, precision in product(layers, options.precisions):
        own = [s for s in steps if s[:2] == (layer, precision) and rows[s]]
        products = {} if precision in EMULATED else library(layer, precision)
        for step, times in zip(own, timed(own), strict=True):
            print(*step, {name: round(us, 1) for name, us in times.items()}, flush=True)
            for row in rows[step]:
                row["us"] = round(times[row["kernel"]], 2)
                if row["kernel"] in TUNED:
                    sweep.setdefault(tuple(row[n] for n in KEY), row)
                if not step.choice:
                    beside = zip(COLUMNS[-2:], products.get(row["kernel"], ()), strict=False)
                    measured.append({n: row[n] for n in (*KEY, "us")} | dict(beside))
        write_csv(options.out / SWEEP.name, FIELDS, sweep.values())
        write_csv(options.out / MEASURED.name, COLUMNS, measured)


if __name__ == "__main__":
    main()
