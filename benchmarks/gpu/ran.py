"""At which commit each kernel last ran on hardware, and whether it has changed since.

    python -m benchmarks.gpu.ran               # every kernel: its digest, and where it ran
    python -m benchmarks.gpu.ran --csv FILE    # on a GPU where the tests passed: that they ran here

The digest is of what a kernel does: of its parsed source, without docstrings, and of the functions
and constants of Triton that it reaches. Comments, layout and names of files do not count.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import inspect
import pkgutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import triton
from triton.language import constexpr
from triton.runtime import JITFunction

from benchmarks.gpu.tables import read
from softhebb_fast import kernels
from softhebb_fast.files import write_csv
from softhebb_fast.training.provenance import commit

TABLE = Path(__file__).parents[1] / "results" / "h100" / "ran.csv"
FIELDS = ("kernel", "digest", "commit", "device", "torch", "triton")


def all_kernels() -> dict[str, JITFunction]:
    """What is launched, by name."""
    found = {}
    for module in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.endswith("_kernel") and callable(getattr(value, "warmup", None)):
                found[name.removesuffix("_kernel")] = value
    return dict(sorted(found.items()))


def digest(kernel: JITFunction) -> str:
    parts = dict(_reached(kernel, set()))
    text = "\n".join(parts[name] for name in sorted(parts))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _reached(function: JITFunction, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Of a function and all that it calls: a name, and what it stands for."""
    python = function.fn
    name = f"{python.__module__}.{python.__qualname__}"
    if name in seen:
        return
    seen.add(name)
    tree = ast.parse(textwrap.dedent(inspect.getsource(python))).body[0]
    tree.decorator_list = []
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    yield python.__qualname__, ast.unparse(tree)
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    for other in sorted(used & python.__globals__.keys()):
        value = python.__globals__[other]
        if callable(getattr(value, "warmup", None)) or isinstance(value, JITFunction):
            yield from _reached(value, seen)
        elif isinstance(value, constexpr):
            yield other, repr(value.value)


def table(
    rows: Sequence[dict[str, str]], digests: dict[str, str]
) -> list[tuple[str, str, str, str]]:
    """For every kernel: where it last ran, at which commit, and what became of it since."""
    last = {row["kernel"]: row for row in rows}
    found = []
    for name, now in digests.items():
        row = last.get(name)
        if row is None:
            found.append((name, "", "", "never ran on hardware"))
            continue
        since = "unchanged" if row["digest"] == now else "changed since"
        found.append((name, row["device"], row["commit"], since))
    return found


def here(digests: dict[str, str]) -> list[dict[str, str]]:
    """The rows of a GPU on which the kernels have just run."""
    device = torch.cuda.get_device_name()
    versions = {"torch": torch.__version__, "triton": triton.__version__}
    common = {"commit": commit(), "device": device, **versions}
    return [{"kernel": name, "digest": now, **common} for name, now in digests.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, help="write that all kernels ran on this GPU")
    arguments = parser.parse_args()
    digests = {name: digest(kernel) for name, kernel in all_kernels().items()}
    if arguments.csv is not None:
        write_csv(arguments.csv, FIELDS, here(digests))
    for row in table(read(TABLE) if TABLE.exists() else [], digests):
        print(*row, sep="  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
