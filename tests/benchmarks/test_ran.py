"""Whether a kernel is what ran on hardware follows from its source and that of what it calls."""

from __future__ import annotations

import importlib.util

import pytest

pytest.importorskip("triton")

from benchmarks.gpu.ran import FIELDS, TABLE, all_kernels, digest, table
from benchmarks.gpu.tables import read

SOURCE = """
import triton
import triton.language as tl

LIMIT = tl.constexpr(4)
UNUSED = tl.constexpr(5)

@triton.jit
def double(x):
    return 2 * x

@triton.jit
def some_kernel(x, N: tl.constexpr):
    '''Doubles x.'''
    o = tl.arange(0, N)
    tl.store(x + o, double(tl.load(x + o)), mask=o < LIMIT)
"""


def found(folder, *change):
    path = folder / f"m{len(list(folder.iterdir()))}.py"
    path.write_text(SOURCE.replace(*change) if change else SOURCE)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return digest(module.some_kernel)


@pytest.mark.parametrize(
    "change",
    [("Doubles x.", "Twice x."), ("2 * x", "2*x  # twice"), ("constexpr(5)", "constexpr(6)")],
)
def test_what_a_kernel_does_not_do_does_not_count(tmp_path, change):
    assert found(tmp_path, *change) == found(tmp_path)


@pytest.mark.parametrize(
    "change", [("2 * x", "3 * x"), ("constexpr(4)", "constexpr(8)"), ("o < LIMIT", "o <= LIMIT")]
)
def test_what_it_does_or_calls_counts(tmp_path, change):
    assert found(tmp_path, *change) != found(tmp_path)


def test_the_table_tells_what_became_of_a_kernel():
    common = {"commit": "abc", "device": "card", "torch": "", "triton": ""}
    rows = [{"kernel": name, "digest": "1", **common} for name in ("same", "other")]
    assert table(rows, {"same": "1", "other": "2", "new": "3"}) == [
        ("same", "card", "abc", "unchanged"),
        ("other", "card", "abc", "changed since"),
        ("new", "", "", "never ran on hardware"),
    ]


def test_committed_rows_are_of_kernels_that_there_are():
    assert {tuple(row) for row in read(TABLE)} == {FIELDS}
    assert {row["kernel"] for row in read(TABLE)} <= all_kernels().keys()
