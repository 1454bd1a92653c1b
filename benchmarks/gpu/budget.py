"""The resource budget of the kernels: what each may take on each GPU, committed as a table.

    python -m benchmarks.gpu.budget            # recompute budget.csv, some minutes
    python -m benchmarks.gpu.budget --check    # compile anew and compare with it

Nothing runs and nothing is measured: every launch is compiled for the target and its machine code
is read: of a layer that learns ("step"), of one whose largest x is not known ("unbounded") and of a
block that learns ("block"), as far as these differ from it, and of one that does not ("features");
of the blocks of eight networks side by side ("together"); and of layers that learn by another rule,
of the rule's name, what differs most from SoftHebb.
Then follow the other launches of a run ("run"): batch norm, the next batch and the classifier.
``tests/benchmarks/test_budget.py`` holds the kernels to the table.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import torch

from benchmarks.gpu import training_calls
from benchmarks.gpu.offline import TARGETS, Launch, record, resources
from benchmarks.gpu.tables import read
from softhebb_fast import kernels
from softhebb_fast.files import write_csv
from softhebb_fast.kinds import RULES
from softhebb_fast.options import RULE, Competition, Convolution, Epilogue, Rate, Rule

TABLE = Path(__file__).with_name("budget.csv")
TRITON = "3.9"  # whose compiler the table is of
# x, weight, padding: the CIFAR-10 net at batch 10, the first MNIST layer, the last one of STL-10,
# the MNIST perceptron, whose few positions take small tiles
LAYERS = {
    "cifar10-1": ((10, 3, 32, 32), (96, 3, 5, 5), 2),
    "cifar10-2": ((10, 96, 16, 16), (384, 96, 3, 3), 1),
    "cifar10-3": ((10, 384, 8, 8), (1536, 384, 3, 3), 1),
    "cifar10-3@100": ((100, 384, 8, 8), (1536, 384, 3, 3), 1),
    "mnist-1": ((10, 1, 28, 28), (96, 1, 5, 5), 2),
    "stl10-4": ((32, 1536, 12, 12), (6144, 1536, 3, 3), 1),
    "mnist-mlp": ((32, 784, 1, 1), (2000, 784, 1, 1), 0),
}
PRECISIONS = ("tf32", "bfloat16", "tf32x3", "bf16x6", "ieee")
CALLS = {
    "step": (
        *("one_pass", "prepare", "forward", "activity", "plasticity", "reduce_splits", "apply"),
    ),
    "unbounded": ("prepare", "forward", "activity"),
    "block": ("one_pass", "forward", "apply"),
    "features": ("forward", "pool"),
    "together": ("one_pass", "prepare", "forward", "plasticity", "reduce_splits", "apply"),
}
NETWORKS = 8  # of "together"
BY_RULE = ("oja", "instar", "bcm", "teacher", "kmeans")
CALLS |= dict.fromkeys(BY_RULE, ("one_pass", "forward", "plasticity"))
BOUND = 100.0  # of |x| behind a batch norm, as it is in a network
MAX = Epilogue(True, 0.7, "max", (4, 4), (2, 2), (1, 1))
AVG = Epilogue(True, 1.4, "avg", (2, 2), (2, 2))
POOLS = {"cifar10-3": AVG, "cifar10-3@100": AVG, "stl10-4": AVG}
KEY = ("layer", "call", "precision", "target", "kernel")
CONFIG = ("tile", "warps", "stages")
FOUND = ("registers", "spills", "shared", "occupancy", "matrix", "loop_loads", "loop_loads_128")
COMPETITION = Competition(t_invert=1.0)


def step(layer: str, precision: str, call: str = "step", last: bool = False) -> partial:
    """One call of a layer on meta tensors, channels last but for images unless ``last``."""
    x, w, padding = LAYERS[layer]
    pool, groups = POOLS.get(layer, MAX), 1
    if call == "together":
        groups, pool = NETWORKS, pool._replace(groups=NETWORKS)
        x, w = (x[0], groups * x[1], *x[2:]), (groups * w[0], *w[1:])
    return on_meta(x, w, padding, precision, call, pool, last, groups)


def on_meta(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    padding: int,
    precision: str,
    call: str,
    pool: Epilogue,
    last: bool,
    groups: int = 1,
) -> partial:
    narrow = precision == "bfloat16"
    dtype = torch.bfloat16 if narrow else torch.float32
    os.environ["SOFTHEBB_FAST_PRECISION"] = "ieee" if narrow else precision
    x = torch.empty(x_shape, dtype=dtype, device="meta")
    w = torch.empty(w_shape, dtype=dtype, device="meta")
    if last or x_shape[1] > 3:
        x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
    bound = None if call == "unbounded" else BOUND
    convolution = Convolution(padding=(padding, padding), groups=groups, x_bound=bound)
    options, rate, rule = (convolution, COMPETITION), Rate(0.1), RULE
    if call in BY_RULE:
        rule = of_rule(call, x, w)
        options = convolution, COMPETITION._replace(wta=RULES[call].wta or COMPETITION.wta)
    if call == "features":
        return partial(kernels.block_forward, x, w, None, *options, pool)
    if call in ("block", "together"):
        return partial(kernels.block_step_, x, w, None, rate, *options, pool)
    return partial(kernels.conv2d_step_, x, w, None, rate, *options, rule)


def of_rule(name: str, x: torch.Tensor, w: torch.Tensor) -> Rule:
    """The rule with its tensors on the meta device, for a layer whose u has the size of x."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    target = torch.empty(x.shape[0], w.shape[0], *x.shape[2:], device="meta")
    target = target.to(memory_format=torch.channels_last) if last else target
    neurons = torch.empty(w.shape[0], device="meta")
    signals = {"target": target, "threshold": neurons, "counts": neurons}
    return Rule.of(name, **{wanted: signals[wanted] for wanted in Rule.of(name).wants})


def launches(layer: str, call: str, precision: str, target: str) -> list[Launch]:
    if call == "run":
        return record(training_calls.CALLS[layer, precision], target)
    found = record(step(layer, precision, call=call, last=call != "step"), target)
    return [launch for launch in found if launch.name in CALLS[call]]


def row(layer: str, call: str, precision: str, target: str, launch: Launch) -> dict[str, str]:
    found = resources(launch.compile(target), target)
    return {
        "layer": layer,
        "call": call,
        "precision": precision,
        "target": target,
        "kernel": launch.name,
        "tile": launch.tile,
        "warps": str(launch.config.warps),
        "stages": str(launch.config.stages),
        **{name: str(found[name]) for name in FOUND},
    }


def cases() -> Iterator[tuple[str, str, str, str]]:
    """Layer, call, precision and target: every precision of a step, two of a block."""
    for (what, dtype), target in product(training_calls.CALLS, TARGETS):
        yield what, "run", dtype, target
    others = [call for call in CALLS if call not in BY_RULE and call != "together"]
    for layer, call, precision, target in product(LAYERS, others, PRECISIONS, TARGETS):
        if precision == "tf32x3" and target == "gfx942":
            continue  # products in three tf32 terms are for NVIDIA
        if target == "sm_120a" and (call == "unbounded" or "x" in precision):
            continue  # which few of its cards would be asked for
        if call == "unbounded":  # where x is scaled and forward is a kernel of its own
            if precision in ("tf32", "tf32x3") and layer.startswith(("cifar10-2", "cifar10-3")):
                yield layer, call, precision, target
        elif call != "step" and layer == "mnist-mlp":
            continue  # which pools nothing
        elif call == "step" or layer == "cifar10-1" or precision in ("tf32", "bfloat16"):
            yield layer, call, precision, target
    for layer, call, target in product(list(LAYERS)[:3], (*BY_RULE, "together"), TARGETS):
        yield layer, call, "tf32", target


def rows() -> Iterator[dict[str, str]]:
    for case in cases():
        for launch in launches(*case):
            yield row(*case, launch)


def committed() -> dict[tuple[str, ...], dict[str, str]]:
    return {tuple(row[k] for k in KEY): row for row in read(TABLE)}


def excess(found: dict[str, str], budget: dict[str, str]) -> list[str]:
    """What exceeds the budget, in words."""
    words = []
    for name, sign in (
        ("registers", 1),
        ("spills", 1),
        ("shared", 1),
        ("occupancy", -1),
        ("loop_loads_128", -1),
    ):
        if sign * int(found[name]) > sign * int(budget[name]):
            words.append(f"{name} {found[name]}, budget {budget[name]}")
    if found["matrix"] != budget["matrix"]:
        words.append(f"matrix {found['matrix']!r}, budget {budget['matrix']!r}")
    return words


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, and fail on any excess")
    if parser.parse_args().check:
        budget, worse = committed(), 0
        for found in rows():
            key = tuple(found[k] for k in KEY)
            for words in excess(found, budget[key]):
                worse += 1
                print(*key, words)
        return int(worse > 0)
    write_csv(TABLE, KEY + CONFIG + FOUND, rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
