"""Runs ``interpreted*.py`` in a process of their own: the interpreter is chosen at import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

HERE = Path(__file__).parent
FILES = sorted(path.name for path in HERE.glob("interpreted*.py"))
# The emulator has their kernels, too.
LATER = {"interpreted_classifier.py", "interpreted_magnitudes.py", "interpreted_rules.py"}
SLOW = (pytest.mark.slow, pytest.mark.timeout(1800))


def parts() -> list:
    """Which tests of which file are run together."""
    quick = [(file, "not slow") for file in FILES if file not in LATER]
    slow = [(file, "slow or not slow" if file in LATER else "slow") for file in FILES]
    return [*quick, *(pytest.param(*part, marks=SLOW) for part in slow)]


@pytest.mark.parametrize(("file", "cases"), parts())
def test_kernels_in_the_interpreter(file, cases):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", cases, HERE / file],
        cwd=HERE.parents[1],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
