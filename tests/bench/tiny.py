"""A network of two small layers, and rows of results."""

from __future__ import annotations

from softhebb_fast.bench.cases import Case, parts
from softhebb_fast.bench.rows import Row
from softhebb_fast.presets import parse_network

NET = parse_network(
    "softkrotov-c6-k3-p1-t2-lr0.1-lp0.5:triangle_0.7:max_4_2_1 "
    "softkrotov-c10-k3-p1-t1-lr0.05-lp0.5:triangle_1.4:avg_2_2_0 bp:dropout_0.5"
)
PERCEPTRON = parse_network("soft-c8-t5-lr0.05-lp0.2:softmax_5 bp")


def case(kind: str, batch: int = 3, net=NET) -> Case:
    stack = parts(net, (2, 12, 12))
    return Case(f"tiny/{kind}/b{batch}", kind, stack[:1] if kind == "layer" else stack, batch)


def row(**changes) -> Row:
    values = dict(
        case="cifar10/step/b10",
        provider="cpp",
        device="cpu",
        precision="float32",
        threads=2,
        median=0.07,
        q20=0.06,
        q80=0.08,
        samples=15,
        calls=1,
        bytes=200 << 20,
        flops=7_000_000_000,
        commit="abc",
        versions="Python 3.11, torch 2.13",
        machine="a CPU, 2 cores",
        timestamp="2026-01-01T00:00:00+00:00",
    )
    return Row(**values | changes)
