"""No packed 16-bit sum has a constant: ptxas 12.8 to 13.0 loses that of some of them."""

from __future__ import annotations

import re

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.gpu.offline import record
from softhebb_fast.kernels import configs
from tests.by_keyword import kernels
from tests.kernels.cases import CASES, WIDE, Case

LAYERS = {
    "first": Case(),
    "first-channels_last": Case(layout="channels_last"),
    "deep": Case(**WIDE),
    "deep-channels_last": Case(**WIDE, layout="channels_last"),
    "gray-channels_last": CASES["gray-last"],
    "sliced": CASES["sliced"],
}
QUICK = {
    *(("first", mode) for mode in ("zeros", "circular")),
    *(("deep-channels_last", "circular"), ("sliced", "zeros")),
}


@pytest.mark.parametrize(
    ("layer", "padding_mode"),
    [
        pytest.param(layer, mode, marks=() if (layer, mode) in QUICK else pytest.mark.slow)
        for layer in LAYERS
        for mode in ("zeros", "reflect", "replicate", "circular")
    ],
)
def test_no_packed_sums(layer, padding_mode, monkeypatch):
    case = LAYERS[layer]._replace(options={"padding_mode": padding_mode, "padding": (2, 1)})
    x, w, bias = case.tensors(torch.float32)
    found = {}
    for precision in ("ieee", "tf32"):
        monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
        apart = {"one_pass": None}
        for choice in ({}, apart, apart | {"activity": configs.Config(32, 128, 0, 8, 1)}):
            with configs.chosen(choice):
                launches = record(lambda: kernels.conv2d(x, w, bias, **case.conv), "sm_90a")
            found |= {
                (launch.name, precision, "activity" in choice): launch
                for launch in launches
                if launch.name not in ("reduce_splits", "apply")
            }
    assert {"forward", "activity", "plasticity"} <= {name for name, *_ in found}
    for name, launch in found.items():
        assert packed_constants(launch.compile("sm_90a").asm["ptx"]) == [], name


def packed_constants(ptx: str) -> list[str]:
    """Operands of packed 16-bit operations, two together, of which one is made of constants."""
    number = r"-?(?:0x)?[0-9A-Fa-f]+"
    halves = "|".join([number, *(re.escape(r) for r in constants(ptx, "b16", number))])
    pair = rf"\{{(?:(?:{halves}), %rs\d+|%rs\d+, (?:{halves}))\}}"
    whole = {*constants(ptx, "b32", number), *constants(ptx, "b32", pair)}
    operands = re.findall(r"\.[su]16x2\s+%r\d+, (.+);", ptx)
    return [o for o in operands if any(n in whole or n[0] != "%" for n in o.split(", "))]


def constants(ptx: str, kind: str, value: str) -> list[str]:
    return re.findall(rf"mov\.{kind}\s+(%rs?\d+), {value};", ptx)


@pytest.mark.parametrize(
    "given",
    ["mov.b32 %r2, 16646144;", "mov.b16 %rs1, 254;\nmov.b32 %r2, {%rs4, %rs1};", ""],
)
def test_a_packed_constant_is_found(given):
    last = "%r2" if given else "65534"
    ptx = f"{given}\nmov.b32 %r4, {{%rs7, %rs8}};\nadd.s16x2 %r3, %r1, {last};"
    assert packed_constants(ptx + "\nmax.s16x2 %r5, %r4, %r4;") == [f"%r1, {last}"]
