"""Every line of the PTX runs, and right: no branch of a kernel is left that no test has seen."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch

pytest.importorskip("triton")

from softhebb_fast.kernels import configs
from tests.by_keyword import kernels, reference
from tests.kernels.cases import LINEAR, POOLS, WIDE, Case
from tests.kernels.test_emulator import TF32, update_from
from tests.tolerances import assert_close, tolerance

TARGETS = ("sm_80", "sm_90a")
RATES = {"lr": 0.1, "lr_power": 0.5}
# whole tiles of neurons, so that every lane has one, and of weights that are raised to a power
FIRST = Case((2, 3, 9, 7), (64, 3, 5, 5), {"padding": (2, 2)})
APART = Case(w=(128, 3, 3, 3))
DEEP = Case(WIDE["x"], (128, 48, 3, 3), layout="channels_last")  # a tile of patches has many taps
ONE_TAP = Case((2, 128, 5, 4), (64, 128, 3, 3), layout="channels_last")
LINES = {
    "one_pass": ("tf32", FIRST, None),
    "one_pass-bias": ("bfloat16", FIRST._replace(bias=True), None),
    "first-ieee": ("ieee", FIRST, None),
    "one_pass-max": ("tf32", FIRST, "max-4-2-1"),
    "one_pass-avg": ("float16", FIRST._replace(layout="channels_last"), "avg-2-2-0"),
    "tf32": ("tf32", DEEP._replace(w=(64, 48, 3, 3)), None),
    "tf32-contiguous": ("tf32", APART, None),
    "tf32-one_tap": ("tf32", ONE_TAP, None),
    "tf32x3-one_tap-bias": ("tf32x3", ONE_TAP._replace(bias=True), None),
    "tf32x3-max": ("tf32x3", DEEP, "max-4-2-1"),
    "bfloat16-avg": ("bfloat16", DEEP._replace(bias=True), "avg-4-2-1"),
    "ieee-hard_anti": ("ieee", Case(w=(64, 3, 3, 3), options={"wta": "hard_anti"}), None),
    "pre_triangle": ("ieee", Case(w=(64, 3, 3, 3), options={"pre_triangle": True}), "none"),
    "lebesgue": ("ieee", Case((2, 2, 7, 6), (128, 2, 4, 4), {"lebesgue_p": 3.0}), None),
    "ieee-deep": ("ieee", DEEP, None),
    "linear": ("ieee", Case((37, 128), (64, 128)), None),
    "linear-tf32": ("tf32", Case((37, 128), (64, 128)), None),
}
for wta in ("soft", "hard", "hard_anti"):
    options = {"wta": wta, "padding": (2, 2)}
    LINES[f"one_pass-{wta}"] = ("tf32", FIRST._replace(options=options), None)
    LINES[f"tiles-{wta}"] = ("ieee", APART._replace(options={"wta": wta}), None)
QUICK = {"one_pass-avg", "tf32", "ieee-hard_anti"}


def call(x, w, bias, case, pool):
    if x.dim() == 2:
        options = LINEAR
        return partial(kernels.linear_step_, x, w, bias, **RATES, **options)
    if pool is None:
        return partial(kernels.conv2d_step_, x, w, bias, **RATES, **case.conv)

    def block():
        out, *rest = kernels.block_step_(x, w, bias, POOLS[pool], **RATES, **case.conv)
        kernels.block_forward(x, w, bias, POOLS[pool], **case.conv)
        return out, *rest

    return block


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in LINES]
)
def test_every_line_of_ptx_runs(emulated, name, target, monkeypatch):
    """With ranges of positions that are empty, and with infinite weights alone: each lane raises
    elements of its own to a power."""
    precision, case, pool = LINES[name]
    narrow = "float" in precision
    x, w, bias = case.tensors(getattr(torch, precision) if narrow else torch.float32)
    monkeypatch.setattr(configs, "splits", lambda G, M, config: 5)
    monkeypatch.setattr(configs, "parts", lambda G, M: 5)
    if not name.startswith("one_pass"):
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    missed, begin = None, w.clone()
    for weight in (w, torch.full_like(w, float("inf"))):
        run = call(x, weight, bias, case, pool)
        got, reports = emulated(target, "ieee" if narrow else precision, run)
        if weight is w:
            assert_step(got[0], w, (x, begin, bias), case, pool, precision)
        found = [set(r["not_run"]) - of_the_assertion(r["not_run"]) for r in reports]
        missed = found if missed is None else [a & b for a, b in zip(missed, found, strict=True)]
    assert missed == [set()] * len(missed)


def assert_step(out, w, before, case, pool, precision):
    """Here each lane has elements of its own: what one of them does wrong is seen."""
    x, want, bias = (None if t is None else t.double().contiguous() for t in before)
    rough, linear, wanted = precision == "tf32", x.dim() == 2, None
    if rough and pool is not None:
        wanted = reference.block_forward(x, want, bias, POOLS[pool], **case.conv)
        want = None  # whose winners follow from a u that nobody has
    elif rough and not linear:
        delta_w = update_from(out, x, want, bias, case.conv).delta_w
        reference.hebbian_step_(want, delta_w, RATES["lr"], RATES["lr_power"])
    elif linear:
        reference.linear_step_(x, want, bias, **RATES, **LINEAR)
    elif pool is None:
        reference.conv2d_step_(x, want, bias, **RATES, **case.conv)
    else:
        wanted = reference.block_step_(x, want, bias, POOLS[pool], **RATES, **case.conv)[0]
    narrow = w.dtype != torch.float32
    if wanted is not None:
        tol = (1 + narrow) * tolerance(w.dtype, "u")
        assert_close(out, wanted, TF32 if rough else tol)
    if want is not None:
        assert_close(w, want, TF32 if rough else (1 + narrow) * tolerance(w.dtype, "delta_w"))


def of_the_assertion(lines):
    """Those that end a launch whose programs have waited too long: none of them may run."""
    texts = {r for line in lines for r in re.findall(r"mov\.b64\s+(%rd\d+), assert", line)}
    named = re.compile(r"assert|st\.param|^trap|^bra\.uni")
    return {x for x in lines if named.search(x) or texts & set(re.findall(r"%rd\d+", x))}
