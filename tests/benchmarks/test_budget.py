"""The compiled kernels against the committed budget of registers, memory and instructions."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import triton

from benchmarks.gpu.budget import KEY, TRITON, cases, committed, excess, launches, row

BUDGET = committed()
OF_ANOTHER = pytest.mark.skipif(
    not triton.__version__.startswith(f"{TRITON}."),
    reason=f"the table waits for Triton {TRITON}; this is {triton.__version__}",
)
QUICK = {
    ("cifar10-1", "step", "tf32", "sm_90a"),
    ("cifar10-1", "block", "bfloat16", "sm_90a"),
    ("cifar10-2", "step", "tf32", "sm_90a"),
    ("cifar10-2", "step", "bfloat16", "sm_80"),
    ("cifar10-2", "step", "tf32", "gfx942"),
    ("cifar10-2", "features", "bfloat16", "sm_90a"),
    ("mnist-1", "step", "bfloat16", "sm_100a"),
    ("cifar10-2", "bcm", "tf32", "sm_90a"),
    ("cifar10-1", "kmeans", "tf32", "sm_80"),
    ("classifier", "run", "float32", "sm_90a"),
    ("batch_norm", "run", "float32", "sm_80"),
}


def compiled(layer, call, precision, target):
    """Which rows are compiled anew here; ``python -m benchmarks.gpu.budget --check`` does all."""
    return target in ("sm_80", "sm_90a", "gfx942") or precision in ("tf32", "bfloat16")


@OF_ANOTHER
@pytest.mark.parametrize(
    ("layer", "call", "precision", "target"),
    [
        pytest.param(*key, marks=() if key in QUICK else pytest.mark.slow)
        for key in sorted({key[:4] for key in BUDGET})
        if compiled(*key)
    ],
)
def test_within_budget(layer, call, precision, target, monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "ieee")  # restored after the layer sets it
    for launch in launches(layer, call, precision, target):
        found = row(layer, call, precision, target, launch)
        assert excess(found, BUDGET[tuple(found[k] for k in KEY)]) == [], launch.name


def test_the_table_is_whole():
    assert {key[:4] for key in BUDGET} == set(cases())


def test_nothing_spills():
    assert {key: r["spills"] for key, r in BUDGET.items() if r["spills"] != "0"} == {}


def test_products_run_on_matrix_units():
    """In the loop; exact float32 has none on NVIDIA."""
    names = {"sm_80": "HMMA", "sm_90a": "HGMMA", "sm_100a": "UTCHMMA"}
    names |= {"sm_120a": "HMMA", "gfx942": "MFMA"}
    for (*_, precision, target, kernel), r in BUDGET.items():
        if kernel in ("forward", "plasticity", "one_pass") and precision != "ieee":
            assert r["matrix"] == names[target], r


def test_wide_loads_in_the_loop():
    """Forward of every layer with 16 channels or more loads 128 bits at a time and nothing else.

    But for exact float32 without matrix units, whose filters are turned as they are read.
    """
    for (layer, _, precision, target, kernel), r in BUDGET.items():
        if kernel == "forward" and layer.startswith(("cifar10-2", "cifar10-3", "stl10-4")):
            if target.startswith("sm"):
                assert int(r["loop_loads_128"]) > 0, r
                assert precision == "ieee" or r["loop_loads"] == r["loop_loads_128"], r
            elif precision != "ieee":  # whose small tile leaves a lane of AMD 64 bits
                assert int(r["loop_loads_128"]) > 0, r


@pytest.mark.parametrize(
    ("name", "change"),
    [("registers", 1), ("spills", 8), ("shared", 16), ("occupancy", -1), ("loop_loads_128", -1)],
)
def test_a_change_that_costs_more_is_named(name, change):
    budget = next(r for r in BUDGET.values() if r["kernel"] == "forward")
    worse = budget | {name: str(int(budget[name]) + change)}
    assert excess(budget, budget) == []
    assert [words.split()[0] for words in excess(worse, budget)] == [name]
    assert excess(budget | {"matrix": ""}, budget)
