"""The native kernels of a copied tree, built quickly: for one instruction set, hardly optimised."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths

FLAGS = (
    "-O1 -std=c++20 -fPIC -fvisibility=hidden -fopenmp -fopenmp-simd -fno-math-errno"
    " -fno-trapping-math -march=x86-64-v3 -g0 -w"
)
COMMON = ("torch/library.h", "ATen/Parallel.h", "ATen/Dispatch.h", "ATen/native/CPUBlas.h")
LEVELS = "#if defined(__x86_64__) && defined(__linux__)"
RULES = """
rule header
  command = g++ {flags} {includes} -x c++-header $in -o $out
rule compile
  command = g++ {flags} {includes} -include common.h -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = g++ -shared -fopenmp $in -L{libraries} -lc10 -ltorch_cpu -ltorch -o $out
build common.h.gch: header common.h
"""


def prepare(tree: Path) -> None:
    """Write how to build, into ``tree/build``."""
    multiversion = tree / "csrc" / "multiversion.h"
    text = multiversion.read_text(encoding="utf-8")
    if text.count(LEVELS) != 1:
        raise RuntimeError(f"{multiversion} must have one line {LEVELS!r}")
    multiversion.write_text(text.replace(LEVELS, "#if 0"), encoding="utf-8")
    build = tree / "build"
    build.mkdir()
    (build / "common.h").write_text("".join(f"#include <{name}>\n" for name in COMMON))
    sources = sorted((tree / "csrc").glob("*.cpp"))
    rules = RULES.format(
        flags=FLAGS,
        includes=" ".join(f"-isystem {path}" for path in include_paths()),
        libraries=Path(torch.__file__).parent / "lib",
    )
    lines = [f"build {s.stem}.o: compile {s} | common.h.gch" for s in sources]
    objects = " ".join(f"{s.stem}.o" for s in sources)
    lines.append(f"build {library(tree)}: link {objects}")
    (build / "build.ninja").write_text(rules + "\n".join(lines) + "\n", encoding="utf-8")


def library(tree: Path) -> Path:
    minor = "_".join(torch.__version__.split(".")[:2])
    return tree / "softhebb_fast" / f"_C_torch{minor}.so"


def built(tree: Path, jobs: int = 1) -> bool:
    """Whether the kernels compile; what has not changed is not compiled again."""
    command = ["ninja", "-C", tree / "build", "-j", str(jobs)]
    return subprocess.run(command, capture_output=True, text=True).returncode == 0
