"""A walk through the native kernels: layers and blocks of odd shapes, every rule and competition.

python -m benchmarks.fire.walk --steps 100

It is for a build under a sanitizer, which says what is wrong; here no result is compared.
"""

from __future__ import annotations

import argparse
import random

import torch
from torch import nn

from softhebb_fast import extension
from softhebb_fast.kinds import PADDING_MODES, POOLS, RULES, TIE_RULES, WTA
from softhebb_fast.nn import (
    Dropout,
    HebbianConv2d,
    HebbianLinear,
    SoftHebbBlock,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
)

TAUGHT = ("teacher", "delta_rule")  # which take labels; their kernels are those of the others
ODD = (1, 2, 3, 5, 7, 8, 11, 16, 17, 31, 33, 64, 67)
OPTIONS = {"lr": 0.01, "backend": "cpp", "update": "in_place"}


def step(rng: random.Random) -> str:
    """Let a random layer learn from one batch and compute another; returns what it was."""
    dtype = rng.choice((torch.float32, torch.float32, torch.float64))
    kind = rng.choice(("conv", "conv", "rule", "linear", "linear rule", "block", "conv1d"))
    options = {**OPTIONS, "dtype": dtype, "bias": rng.random() < 0.3}
    if kind != "rule" and kind != "linear rule":
        options |= {"wta": rng.choice(WTA), "rank": 2, "tie_rule": rng.choice(TIE_RULES)}
    else:
        options |= {"rule": rng.choice([rule for rule in RULES if rule not in TAUGHT])}
    batch, most = rng.choice(ODD[:8]), 33 if rng.random() < 0.8 else 200
    size = lambda least: rng.choice([n for n in ODD if least <= n <= most])  # noqa: E731
    if kind.startswith("linear"):
        make = SoftHebbLinear if kind == "linear" else HebbianLinear
        layer, shape = make(size(1), size(3), **options), None
        shape = (batch, layer.in_features)
    else:
        groups = rng.choice((1, 1, 1, 3)) if options.get("rule") != "sanger" else 1
        kernel, stride, dilation = rng.choice((1, 2, 3, 3, 3, 5)), rng.choice((1, 1, 2)), 1
        if kernel == 2:
            dilation = 2
        padding, mode = rng.choice((0, 1)), rng.choice(PADDING_MODES)
        into, out = groups * rng.choice(ODD[:6]), groups * size(3)
        options |= {"groups": groups, "padding_mode": mode}
        make = {
            "conv": SoftHebbConv2d,
            "rule": HebbianConv2d,
            "block": SoftHebbBlock,
            "conv1d": SoftHebbConv1d,
        }[kind]
        if kind == "block":
            pool = nn.MaxPool2d if rng.choice(POOLS) == "max" else nn.AvgPool2d
            options["pool"] = pool(2, 2, padding=rng.choice((0, 1)))
            options["activation"] = Triangle(rng.choice((0.7, 1.0)))
        layer = make(into, out, kernel, stride, padding, dilation, **options)
        sides = [size(5) + 2 for _ in range(1 if kind == "conv1d" else 2)]
        shape = (batch, into, *sides)
    x = torch.randn(shape, dtype=dtype)
    if x.dim() == 4 and rng.random() < 0.3:
        x = x.to(memory_format=torch.channels_last)
    layer.train()(x)
    layer.eval()(x)
    Dropout(0.5).train()(x)
    return f"{kind} {tuple(x.shape)} {dtype} {options}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true", help="do not name the layers")
    options = parser.parse_args()
    if extension.MISSING:
        raise SystemExit(extension.MISSING)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    for _ in range(options.steps):
        done = step(rng)
        if not options.quiet:
            print(done, flush=True)
    print(f"{options.steps} walked", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
