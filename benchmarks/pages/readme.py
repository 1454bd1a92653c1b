"""The tables of README.md and docs/benchmarks.md, written from the committed results.

python -m benchmarks.pages.readme              # say which tables differ, and fail if one does
python -m benchmarks.pages.readme --write      # write them again
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.pages import rules
from softhebb_fast.bench import rows, scaling
from softhebb_fast.bench.providers import PROVIDERS
from softhebb_fast.bench.rows import Row
from softhebb_fast.bench.table import seconds
from softhebb_fast.files import write_text

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parents[1] / "results" / "cpu.csv"
RULES = RESULTS.with_name("rules_cpu.csv")
GPU = RESULTS.with_name("gpu_nvidia_h100_80gb_hbm3.csv")
DAY = RESULTS.with_name("h100") / "steps.csv"  # whole steps, of kernels that are later than GPU's
NAMES = {
    "published": "as published",
    "published-flushed": "as published, denormals flushed",
    "tuned": "tuned PyTorch",
    "compiled": "the same under `torch.compile`",
    "cpp": "**`cpp`**",
    "cpp-bf16x3": "**`cpp`**, products in bf16x3",
    "library": "the library's convolutions alone",
    "products": "the bare matrix products",
}
ON_GPU = {
    "triton-graph-tf32": "**`triton`**, tf32",
    "library-graph-tf32": "the library's convolutions alone, tf32",
    "triton-graph-bf16": "**`triton`**, bfloat16",
    "library-graph-bf16": "the library's convolutions alone, bfloat16",
    "triton-graph-bf16x6": "**`triton`**, `bf16x6`, as exact as float32",
    "triton-graph": "**`triton`**, float32",
    "library-graph": "the library's convolutions alone, float32",
}
COLUMNS = {
    "cifar10/step/b10": "CIFAR-10 net, batch 10",
    "cifar10/step/b100": "batch 100",
    "mnist/step/b32": "MNIST net, batch 32",
    "mnist-128/step/b32": "MNIST, 128 filters 3x3, batch 32",
    "mnist-mlp/step/b32": "MLP of 2000, batch 32",
}
PHASES = {
    "cifar10/run/layer?": "Hebbian layers, one epoch each",
    "cifar10/run/features*": "features that are kept",
    "cifar10/run/probe": "classifier, 50 epochs",
    "cifar10/run/test": "evaluation",
}


def steps(found: Sequence[Row]) -> str:
    """Milliseconds of a step: providers down, networks across."""
    return _across(rows_of("steps", found), NAMES)


def gpu_steps(found: Sequence[Row]) -> str:
    """The same on a GPU."""
    return _across(rows_of("gpu-steps", found), ON_GPU)


def layers(found: Sequence[Row]) -> str:
    """Milliseconds of single layers, cases down, providers across."""
    return _layers(rows_of("layers", found))


def gpu_layers(found: Sequence[Row]) -> str:
    """The same on a GPU."""
    return _layers(rows_of("gpu-layers", found))


def _layers(own: Sequence[Row]) -> str:
    names = [name for name in PROVIDERS if any(row.provider == name for row in own)]
    lines = [f"| | {' | '.join(f'`{name}`' for name in names)} |", "|---" * len(names) + "|---|"]
    for case in dict.fromkeys(row.case for row in own):
        times = {row.provider: seconds(row.median) for row in own if row.case == case}
        lines.append(f"| `{case}` | " + " | ".join(times.get(n, "") for n in names) + " |")
    return "\n".join(lines)


def run(found: Sequence[Row]) -> str:
    """Seconds of the phases of a CIFAR-10 run, and their sum."""
    phases = rows_of("run", found)
    names = [name for name in NAMES if any(row.provider == name for row in phases)]
    lines = [f"| | {' | '.join(NAMES[name] for name in names)} |", "|---" * len(names) + "|---|"]
    sums = dict.fromkeys(names, 0.0)
    for pattern, text in PHASES.items():
        cells = []
        phase = [row for row in phases if fnmatchcase(row.case, pattern)]
        for name in names:
            own = [row for row in phase if row.provider == name]
            if not own and name == "published-flushed":  # no softmax there, no denormals
                own = [row for row in phase if row.provider == "published"]
            taken = sum(row.median for row in own)
            sums[name] += taken
            cells.append(f"{taken:.0f} s" if own else "")
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    together = " | ".join(f"**{value / 60:.1f} min**" for value in sums.values())
    return "\n".join([*lines, f"| together | {together} |"])


def growth(found: Sequence[Row]) -> str:
    """Slopes, and the picture if it was drawn."""
    table = scaling.table(found)
    picture = RESULTS.with_name("scaling.png")
    link = f"\n\n![Cost on logarithmic axes](../{picture.relative_to(ROOT).as_posix()})"
    return table + link if picture.exists() else table


def by_rule(found: Sequence[Row]) -> str:
    """Steps by other rules."""
    return rules.table(rows_of("rules", found))


NOT_RUN = "*Not run yet.*"
BLOCKS: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "steps": ("README.md", steps),
    "gpu-steps": ("README.md", gpu_steps),
    "layers": ("docs/benchmarks.md", layers),
    "gpu-layers": ("docs/benchmarks.md", gpu_layers),
    "run": ("docs/benchmarks.md", run),
    "scaling": ("docs/benchmarks.md", growth),
    "rules": ("docs/benchmarks.md", by_rule),
}


CASES = {
    "steps": r"cpu [\w-]+/step/b\d+",
    "gpu-steps": r"cuda [\w-]+/step/b\d+",
    "layers": r"cpu [\w-]+/(layer\d|probe)/b\d+",
    "gpu-layers": r"cuda [\w-]+/(layer\d|probe)/b\d+",
    "run": r"cpu cifar10/run/[\w-]+",
    "scaling": r"cpu scaling/\w+/\d+",
    "rules": r"cpu rules/\w+/layer\d/b\d+",
}


def rows_of(name: str, found: Sequence[Row]) -> list[Row]:
    """The rows that a table shows."""
    return [row for row in found if re.fullmatch(CASES[name], f"{row.device} {row.case}")]


def results() -> list[Row]:
    """All that was measured; of whole steps on a GPU the last time."""
    layers = (row for row in rows.read(GPU) if "/step/" not in row.case)
    return [*rows.read(RESULTS), *rows.read(RULES), *layers, *rows.read(DAY)]


def replaced(text: str, name: str, table: str) -> str:
    """``text`` with the table between the marks of ``name``.

    Raises ValueError if the marks are not there.
    """
    begin, end = (
        f"<!-- {name}: python -m benchmarks.pages.readme --write -->\n",
        f"<!-- end {name} -->",
    )
    head, first, rest = text.partition(begin)
    _, second, tail = rest.partition(end)
    if not first or not second:
        raise ValueError(f"there is no block {name!r} in the text")
    return f"{head}{begin}{table}\n{end}{tail}"


def pages(found: Sequence[Row], root: Path = ROOT) -> dict[Path, str]:
    """Every page as the results want it."""
    texts: dict[Path, str] = {}
    for name, (file, table) in BLOCKS.items():
        path = root / file
        text = texts.get(path) or path.read_text(encoding="utf-8")
        texts[path] = replaced(text, name, table(found) if rows_of(name, found) else NOT_RUN)
    return texts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the tables again")
    write, stale = parser.parse_args().write, 0
    for path, text in pages(results()).items():
        if path.read_text(encoding="utf-8") == text:
            continue
        if write:
            write_text(path, text)
        else:
            stale += 1
            print(f"{path.name} does not say what the results do")
    return int(stale > 0)


def _across(found: Sequence[Row], names: dict[str, str]) -> str:
    by_key = {(row.provider, row.case): _digits(1e3 * row.median) for row in found}
    shown = {case: text for case, text in COLUMNS.items() if any(k[1] == case for k in by_key)}
    lines = ["| | " + " | ".join(shown.values()) + " |", "|---" * len(shown) + "|---|"]
    for provider, text in names.items():
        cells = [by_key.get((provider, case), "") for case in shown]
        if any(cells):
            strong = [f"**{c}**" if c and text.startswith("**") else c for c in cells]
            lines.append(f"| {text} | " + " | ".join(strong) + " |")
    return "\n".join(lines)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 999.5 else f"{value:#.3g}".rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
