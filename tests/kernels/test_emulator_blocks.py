"""Blocks, activation and pooling included, as PTX for sm_80 and sm_90a in the emulator."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from softhebb_fast.kernels import configs
from tests.by_keyword import kernels, reference
from tests.kernels.cases import POOLS, WIDE, Case
from tests.tolerances import assert_close, tolerance

TARGETS = ("sm_80", "sm_90a")
TF32 = 4e-3  # as in ``test_emulator``
FIRST = Case((2, 3, 9, 7), (20, 3, 5, 5), {"padding": (2, 2)})
SECOND = Case(WIDE["x"], (70, 48, 3, 3), layout="channels_last")
MEANS = Case((2, 12, 7, 6), (36, 3, 3, 3), {"groups": 4})
RUNS = {
    "one_pass-max": ("float16", "max-4-2-1", FIRST),
    "one_pass-avg": ("bfloat16", "avg-2-2-0", FIRST._replace(layout="channels_last")),
    "one_pass-u": ("tf32", "max-3-2-1", FIRST),
    "padding": ("ieee", "avg-3-1-1", FIRST._replace(bias=True)),
    "first-ieee": ("ieee", "max-4-2-1", FIRST),
    "apart-max": ("tf32x3", "max-4-2-1", SECOND),
    "apart-avg": ("float16", "avg-4-2-1", SECOND._replace(layout="contiguous")),
    "apart-none": ("ieee", "none", Case()),
    "apart-groups": ("ieee", "max-2-2-0", Case(w=(24, 1, 3, 3), options={"groups": 3})),
    "one_pass-means": ("float16", "max-4-2-1", MEANS),
    "apart-means": ("tf32x3", "max-4-2-1", MEANS._replace(layout="channels_last")),
    "apart-pairs": ("ieee", "avg-2-2-0", MEANS._replace(w=(28, 3, 3, 3))),
}
QUICK = {"one_pass-max", "one_pass-avg", "padding", "apart-max", "one_pass-means", "apart-means"}
# Groups with a mean of their own, and two groups that have one together.
GROUPS_OF_MEANS = {"one_pass-means": 4, "apart-means": 4, "apart-pairs": 2}


def tensors(name):
    precision, pool, case = RUNS[name]
    narrow = "float" in precision
    x, w, bias = case.tensors(getattr(torch, precision) if narrow else torch.float32)
    epilogue = POOLS[pool]._replace(groups=GROUPS_OF_MEANS.get(name, 1))
    return x, w, bias, case.conv, epilogue, "ieee" if narrow else precision


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in RUNS]
)
def test_block(emulated, name, target, monkeypatch):
    x, w, bias, options, epilogue, precision = tensors(name)
    if name.startswith("apart"):
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    got, learned = emulated(
        target, precision, lambda: kernels.block_update(x, w, bias, epilogue, **options)
    )
    out, still = emulated(
        target, precision, lambda: kernels.block_forward(x, w, bias, epilogue, **options)
    )
    exact = [None if t is None else t.double() for t in (x, w, bias)]
    want, delta_w, *_ = reference.block_update(*exact, epilogue, **options)
    tol = tolerance(x.dtype, "u") * (1 if x.dtype == torch.float32 else 2)
    tol = TF32 if precision == "tf32" else tol
    tol = tol**epilogue.power if epilogue.power < 1 else tol
    assert_close(got[0], want, tol)
    assert_close(out, want, tol)
    if precision != "tf32":
        assert_close(got[1], delta_w, 2 * tolerance(x.dtype, "delta_w"))
    assert [r["races"] for r in learned + still] == [{}] * len(learned + still)
    whole = name.startswith("one_pass")
    expected = ["one_pass", "reduce_splits"] if whole else ["prepare", "forward", "plasticity"]
    assert [r["kernel"] for r in learned] == [*expected, "apply"]
    assert len(still) <= 2


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "name",
    [
        *("one_pass-avg", "one_pass-max", "one_pass-means"),
        pytest.param("apart-max", marks=pytest.mark.slow),
    ],
)
def test_a_tensor_one_element_short_faults(shortened, target, name):
    x, w, bias, options, epilogue, precision = tensors(name)
    tried, passed = shortened(
        target, precision, lambda: kernels.block_update(x, w, bias, epilogue, **options)
    )
    expected = {"one_pass-avg": "out", "apart-max": "u_sums"}.get(name, "a")
    assert {"out", expected} <= {parameter for _, parameter in tried}
    assert passed == []
