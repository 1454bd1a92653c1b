"""Notebooks run as the programs that they are, and show what their text says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.docs.blocks import DOCS, ROOT

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
CLAIMS = {
    "quick_start": "scores['pixels'] < 85 < scores['random filters'] < scores['learned filters']",
    "drop_in": "kept and moved == [True, False] and difference < 1e-2 * size",
    "own_pictures": "pixels < 40 and features > 95",
    "filters": "all(layer['norm_mean'] < 1.5 for layer in summary['layers'])"
    " and float(cosines.abs().mean()) < 0.3",
    "zero_collapse": "before['ZerO'] == 1 and before['Hadamard patches'] == 64"
    " and bits['ZerO'] + 1 < min(bits['normal'], bits['Hadamard patches'])",
    "own_kernel": "all(second.values()) and sorted(n for n, right in first.items() if not right)"
    " == ['all negative', 'cold', 'ties', 'width 7']",
}
PROGRAM = """
import runpy, sys
names = runpy.run_path(sys.argv[1])
if not eval(sys.argv[2], names):
    sys.exit(f"not so: {sys.argv[2]}")
"""


def test_every_notebook_makes_a_claim():
    assert {path.stem for path in NOTEBOOKS} == CLAIMS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook, tmp_path):
    if notebook.stem == "own_kernel":
        pytest.importorskip("triton")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(notebook), CLAIMS[notebook.stem]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
