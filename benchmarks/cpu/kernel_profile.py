"""Where the time of the native step goes, and what Winograd's method saves and costs.

    python -m benchmarks.cpu.kernel_profile --threads 1 --csv benchmarks/results/cpu_profile.csv

Times are CPU time over all threads, medians; methods run interleaved in one process. Errors are
those against float64, relative to the largest exact value.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cpu import report
from softhebb_fast import ops, reference
from softhebb_fast.bench.cases import Part, select
from softhebb_fast.bench.inputs import inputs
from softhebb_fast.options import Competition, Convolution, Epilogue, Rate

PARTS = ("im2col", "transforms", "products", "competition", "pooling", "apply")
NETWORKS = ("cifar10", "mnist-128", "mnist-mlp")
SWITCH = "SOFTHEBB_FAST_WINOGRAD"
FIELDS = ["net", "layer", "batch", "method", "what", "value", "unit"]

# Winograd's F(m x m, 3x3): of the input, the weight, and the output.
TRANSFORMS = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [
            [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for row in measured(options.batches, options.repeats):
        print("{:14} {:>2} {:>4} {:9} {:22} {:12.4g} {}".format(*row), flush=True)
        rows.append(row)
    if options.csv:
        report.write(options.csv, FIELDS, rows, options.threads)


def measured(batches: list[int], repeats: int) -> Iterator[tuple]:
    for net in NETWORKS:
        (case,) = select([f"{net}/step/b10"])
        weights = inputs(case, torch.device("cpu")).weights
        for i, (part, weight) in enumerate(zip(case.parts, weights, strict=True)):
            for batch in batches if net == "cifar10" else [32]:
                about, x = (net, i + 1, batch), torch.randn(batch, *part.shape)
                yield from steps(about, part, x, weight.clone(), repeats)
                if _is_3x3(part) and net == "cifar10" and batch == batches[0]:
                    x = torch.randn(10, *part.shape)
                    yield from features(about[:2], part, weight, repeats)
                    yield from errors((*about[:2], 10), part, x, weight)
                    yield from candidates((*about[:2], 10), x, weight, repeats)


def steps(about: tuple, part: Part, x: Tensor, weight: Tensor, repeats: int) -> Iterator[tuple]:
    """The native step of one layer: its whole time, and that of its parts."""
    methods = ("direct", "winograd") if _is_3x3(part) else ("direct",)
    totals = {method: [] for method in methods}
    parts = {method: [] for method in methods}
    for _ in range(repeats + 2):
        for method in methods:
            os.environ[SWITCH] = str(int(method == "winograd"))
            torch.ops.softhebb_fast.profile(True)
            begin = time.process_time()
            step(part, x, weight)
            totals[method].append((time.process_time() - begin) * 1e3)
            parts[method].append(torch.ops.softhebb_fast.profile(False))
    for method in methods:
        yield *about, method, "step", statistics.median(totals[method][2:]), "ms"
        for name, times in zip(PARTS, zip(*parts[method][2:], strict=True), strict=True):
            yield *about, method, name, statistics.median(times) / 1e6, "ms"


def step(part: Part, x: Tensor, weight: Tensor) -> None:
    """The block's step; of a linear layer, the layer's alone."""
    rate = Rate(part.layer.lr, part.layer.lr_power)
    if part.layer.kind == "conv":
        ops.block_step_(x, weight, None, rate, *options(part), epilogue(part))
    else:
        ops.linear_step_(x.flatten(1), weight, None, rate, part.competition)


def features(about: tuple, part: Part, weight: Tensor, repeats: int) -> Iterator[tuple]:
    x = torch.randn(500, *part.shape)
    run = {
        method: lambda switch=switch: (
            os.environ.update({SWITCH: switch}),
            ops.block_forward(x, weight, None, *options(part), epilogue(part)),
        )
        for method, switch in (("direct", "0"), ("winograd", "1"))
    }
    for method, t in interleaved(run, max(3, repeats // 3)).items():
        yield *about, 500, method, "features", t, "ms"


def epilogue(part: Part) -> Epilogue:
    pool = part.layer.pool
    sizes = ((n, n) for n in (pool.kernel, pool.stride, pool.padding))
    return Epilogue(True, part.layer.activation[1], pool.kind, *sizes)


def options(part: Part, wta: str | None = None) -> tuple[Convolution, Competition]:
    return part.convolution, part.competition._replace(wta=wta or part.layer.rule)


def _is_3x3(part: Part) -> bool:
    return part.weight_shape[2:] == (3, 3)


def errors(about: tuple, part: Part, x: Tensor, weight: Tensor) -> Iterator[tuple]:
    """Of u and of the direction, with the competition in which no winner changes hands."""
    exact = reference.conv2d(x.double(), weight.double(), None, *options(part, "soft"))
    for method, switch in (("direct", "0"), ("winograd", "1")):
        os.environ[SWITCH] = switch
        out = ops.conv2d(x, weight, None, *options(part, "soft"))
        for name in ("u", "delta_w"):
            yield from error(about, method, name, getattr(out, name), getattr(exact, name))


def error(about: tuple, method: str, name: str, found: Tensor, exact: Tensor) -> Iterator[tuple]:
    difference, scale = (found.double() - exact).abs(), exact.abs().max()
    yield *about, method, f"{name} error max", float(difference.max() / scale), ""
    yield *about, method, f"{name} error rms", float(difference.square().mean().sqrt() / scale), ""


def candidates(about: tuple, x: Tensor, weight: Tensor, repeats: int) -> Iterator[tuple]:
    """Plain PyTorch models of F(2x2, 3x3) and F(4x4, 3x3): errors and bare products."""
    x = F.pad(x, (1, 1, 1, 1), "reflect")
    y = torch.randn(len(x), len(weight), x.shape[2] - 2, x.shape[3] - 2)
    exact = F.conv2d(x.double(), weight.double())
    exact_yx = torch.nn.grad.conv2d_weight(x.double(), weight.shape, y.double())
    products = {}
    for m in TRANSFORMS:
        u, yx, tiles, points = model(m, x, weight, y)
        yield from error(about, f"F({m}x{m})", "model u", u, exact)
        yield from error(about, f"F({m}x{m})", "model yx", yx, exact_yx)
        products[f"F({m}x{m})"] = lambda a=points, b=tiles: (a @ b, (a @ b) @ b.transpose(1, 2))
    for method, t in interleaved(products, repeats).items():
        yield *about, method, "model products u, u, yx", t, "ms"


def model(m: int, x: Tensor, weight: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """u, yx and the operands of the products ``[points, C, tiles]``, ``[points, K, C]``."""
    into, of_weight, out = (torch.tensor(matrix, dtype=x.dtype) for matrix in TRANSFORMS[m])
    n = m + 2
    tiles = x.unfold(2, n, m).unfold(3, n, m)  # [B, C, down, across, n, n]
    shape = tiles.shape[:1] + tiles.shape[2:4]
    v = (into @ tiles @ into.T).movedim((4, 5, 1), (0, 1, 2)).flatten(3).flatten(0, 1)
    w = (of_weight @ weight @ of_weight.T).movedim((2, 3), (0, 1)).flatten(0, 1)
    products = (w @ v).view(n, n, len(weight), *shape).movedim((0, 1), (-2, -1))
    u = (out @ products @ out.T).permute(1, 0, 2, 4, 3, 5).flatten(4).flatten(2, 3)
    parts = y.unfold(2, m, m).unfold(3, m, m)
    spread = (out.T @ parts @ out).movedim((4, 5, 1), (0, 1, 2)).flatten(3).flatten(0, 1)
    sums = (spread @ v.transpose(1, 2)).view(n, n, *weight.shape[:2]).movedim((0, 1), (-2, -1))
    return u, of_weight.T @ sums @ of_weight, v.contiguous(), w.contiguous()


def interleaved(runs: dict[str, Callable], repeats: int) -> dict[str, float]:
    times = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            if turn:
                times[name].append((time.process_time() - begin) * 1e3)
    return {name: statistics.median(t) for name, t in times.items()}


if __name__ == "__main__":
    main()
