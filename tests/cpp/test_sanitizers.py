"""The kernel tests once more under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/cpp/test_layer.py",
    "tests/cpp/test_step.py",
    "tests/cpp/test_bf16x3.py",
    "tests/cpp/test_winograd.py",
    "tests/test_ties.py",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs gcc"),
]


def library(name: str) -> str:
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"gcc here has no {name}")
    return str(Path(found).resolve())


def test_no_address_error_and_no_undefined_behaviour(tmp_path):
    preload = f"{library('libasan.so')} {library('libubsan.so')}"
    for folder in ("softhebb_fast", "csrc", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("_C*.so"))
    for file in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    build = {"SOFTHEBB_FAST_BUILD": "1", "SOFTHEBB_FAST_SANITIZE": "address,undefined"}
    run(tmp_path, ["setup.py", "build_ext", "--inplace"], build)
    checked = {
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "OMP_NUM_THREADS": "2",
    }
    where = (
        "import softhebb_fast as s, softhebb_fast.ops as o; print(s.__file__); assert not o.MISSING"
    )
    assert str(tmp_path) in run(tmp_path, ["-c", where], checked)
    output = run(tmp_path, ["-m", "pytest", "-p", "no:cacheprovider", *TESTS], checked)
    assert "ERROR: AddressSanitizer" not in output
    assert "runtime error" not in output


def run(folder: Path, arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout
