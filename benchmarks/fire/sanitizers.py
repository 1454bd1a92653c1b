"""The native kernels under sanitizers: addresses, undefined behaviour, races of threads.

python -m benchmarks.fire.sanitizers --out benchmarks/results/sanitizers.csv

The kernels are built once more for each, in build/sanitizers, which takes minutes. Before
anything else each sanitizer must report faults that were planted, and nothing of a region of
threads that has none. Then `benchmarks.fire.walk` goes through the kernels with 1, 2 and 5 threads.

ThreadSanitizer sees what csrc was compiled to, and neither torch nor BLAS, which are not built for
it. It is told when the threads of a region begin and end (csrc/regions.h). What they read before
they are told is left out: the closures of at::parallel_for.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.fire import record

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "sanitizers"
COPIED = ("softhebb_fast", "csrc", "tests", "benchmarks", "setup.py", "pyproject.toml")
COLUMNS = ("sanitizer", "threads", "times", "reports", "planted faults reported")
COLUMNS += ("seed", "commit", "torch")
THREADS = (1, 2, 5)
REPORT = re.compile(r"ERROR: AddressSanitizer|runtime error: |WARNING: ThreadSanitizer")
SUPPRESSED = "race_top:include/ATen/Parallel\nrace_top:csrc/regions.h\n"
CALL = """
import ctypes, sys, torch
torch.set_num_threads(5)
getattr(ctypes.CDLL(sys.argv[1]), sys.argv[2])(64)
"""


@dataclass(frozen=True)
class Sanitizer:
    """``flags`` of the compiler, the ``libraries`` that Python must load first, the ``options`` by
    their variables, and which ``planted`` faults it must report, and which not."""

    flags: str
    libraries: tuple[str, ...]
    options: dict[str, str]
    planted: tuple[str, ...]
    sound: tuple[str, ...] = ("no_race",)


SANITIZERS = {
    "address": Sanitizer(
        "address,undefined",
        ("libasan.so", "libubsan.so"),
        {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
        ("read_beyond", "add_too_much"),
    ),
    "thread": Sanitizer(
        "thread",
        ("libtsan.so",),
        {"TSAN_OPTIONS": f"ignore_noninstrumented_modules=1:suppressions={FOLDER}/suppressed"},
        ("race",),
    ),
}


def why_not() -> str:
    """Why there can be no sanitizer here, or ""."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        return "sanitizers are tried with GCC on Linux"
    libraries = {name for sanitizer in SANITIZERS.values() for name in sanitizer.libraries}
    missing = sorted(name for name in libraries if not Path(_library(name)).is_absolute())
    return f"gcc here has no {', '.join(missing)}" if missing else ""


def build(name: str) -> Path:
    """A copy of the package with kernels that are built for the sanitizer of that name."""
    folder = FOLDER / name
    for part in COPIED:
        source, place = ROOT / part, folder / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(source, place, ignore=ignored, dirs_exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place)
    settings = {"SOFTHEBB_FAST_BUILD": "1", "SOFTHEBB_FAST_SANITIZE": SANITIZERS[name].flags}
    _run([sys.executable, "setup.py", "build_ext", "--inplace"], folder, settings)
    return folder


def checked(name: str, arguments: list[str], threads: int, folder: Path) -> tuple[int, str]:
    """Run Python with the sanitizer; returns how often it reported something, and all output."""
    (FOLDER / "suppressed").write_text(SUPPRESSED, encoding="utf-8")
    sanitizer = SANITIZERS[name]
    settings = {
        "LD_PRELOAD": " ".join(map(_library, sanitizer.libraries)),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": str(folder),
        **sanitizer.options,
    }
    # Its map of the memory may not fit addresses that are drawn at random.
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    done = subprocess.run(
        [*fixed, sys.executable, *arguments],
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    found = len(REPORT.findall(done.stdout))
    if done.returncode != 0 and not found:
        raise RuntimeError(f"{' '.join(arguments)}: exit status {done.returncode}: {done.stdout}")
    return found, done.stdout


def planted(name: str, folder: Path) -> int:
    """How many planted faults the sanitizer reported: all. Raises RuntimeError if it kept silent,
    or spoke where there is no fault."""
    sanitizer, home = SANITIZERS[name], Path(torch.__file__).parent
    library = folder / "planted.so"
    flags = ["-shared", "-fPIC", "-std=c++20", "-fopenmp", "-O1", "-g"]
    flags += [f"-fsanitize={sanitizer.flags}", f"-I{home}/include", f"-L{home}/lib"]
    source = str(ROOT / "benchmarks" / "fire" / "planted.cpp")
    _run(["g++", *flags, source, "-ltorch_cpu", "-lc10", "-o", str(library)], folder, {})
    for fault in (*sanitizer.planted, *sanitizer.sound):
        found, said = checked(name, ["-c", CALL, str(library), fault], 5, folder)
        if (found > 0) != (fault in sanitizer.planted):
            raise RuntimeError(f"{name}: {found} reports of {fault}: {said}")
    return len(sanitizer.planted)


def sanitize(
    names: list[str], threads: list[int], steps: int, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the table, and what was reported."""
    made_by = record.made_by(seed=seed)
    rows, reports = [], []
    for name in names:
        folder = build(name)
        seen = planted(name, folder)
        for count in threads:
            walk = ["-m", "benchmarks.fire.walk", "--quiet", "--steps", str(steps)]
            walk += ["--threads", str(count), "--seed", str(seed)]
            found, said = checked(name, walk, count, folder)
            if f"{steps} walked" not in said and not found:
                raise RuntimeError(f"{name}: the walk did not end: {said}")
            row = {"sanitizer": SANITIZERS[name].flags, "threads": count, "times": steps}
            rows.append(row | {"reports": found, COLUMNS[4]: seen} | made_by)
            print(f"{name}, {count} threads: {steps} steps, {found} reports", flush=True)
            reports += [said] * (found > 0)
    return rows, reports


def _library(name: str) -> str:
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return str(Path(found).resolve()) if Path(found).is_absolute() else found


def _run(command: list[str], folder: Path, settings: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-6000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(SANITIZERS), choices=SANITIZERS)
    parser.add_argument("--threads", nargs="+", type=int, default=list(THREADS))
    parser.add_argument("--steps", type=int, default=300, help="layers that learn, each time")
    parser.add_argument("--seed", type=int, default=0, help="rows of others stay in the CSV")
    parser.add_argument("--out", type=Path, help="CSV of what was tried and what was reported")
    options = parser.parse_args()
    if why := why_not():
        print(why)
        return 2
    rows, reports = sanitize(options.only, options.threads, options.steps, options.seed)
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    for report in reports:
        print(report)
    return int(bool(reports))


if __name__ == "__main__":
    raise SystemExit(main())
