"""The instructions of every kernel of the budget: recorded at one commit, compared with another's.

    python -m benchmarks.gpu.instructions record before.json     # some minutes
    python -m benchmarks.gpu.instructions compare before.json after.json

For a change that must leave every kernel alone. Every launch of the budget is compiled to PTX, or
for AMD to assembly. Two digests are kept, without names, comments and debug lines: of the text, and
of the instructions alone, in any order and any registers. Digests hold for one version of Triton.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from triton import knobs

from benchmarks.gpu.budget import cases, launches
from benchmarks.gpu.offline import TARGETS

PROCESSES = 2
NAMES = (".loc", ".file", ".ident", ".param")  # lines that declare these, and do nothing
REGISTER = re.compile(r"%[a-z]+\d+|\b[asv](?:\d+|\[\d+:\d+\])|param\d+")


def record(folder: Path, targets: set[str]) -> dict[str, list[str]]:
    """Both digests of every row, by layer, call, precision, target, kernel and number.

    The instructions themselves go to ``folder``.
    """
    wanted = [case for case in cases() if case[-1] in targets]
    with tempfile.TemporaryDirectory() as cache, ProcessPoolExecutor(PROCESSES) as pool:
        found = list(pool.map(_texts, wanted, [cache] * len(wanted)))
    digests = {}
    for name, text in (row for rows in found for row in rows):
        digests[name] = digests_of(text)
        (folder / f"{name.replace(' ', '.')}.s").write_text(text)
    return digests


def _texts(case: tuple[str, str, str, str], cache: str) -> list[tuple[str, str]]:
    knobs.compilation.disable_line_info = True
    knobs.runtime.add_stages_inspection_hook = _without_machine_code
    knobs.cache.dir = cache
    found = []
    for number, launch in enumerate(launches(*case)):
        asm = launch.compile(case[-1]).asm
        text = asm["ptx"] if "ptx" in asm else asm["amdgcn"]
        found.append((" ".join((*case, launch.name, str(number))), normalised(text, launch.name)))
    return found


def normalised(text: str, kernel: str) -> str:
    """Instructions and labels alone; parameters are numbered as they are met."""
    text = re.sub(r"//.*" if ".visible" in text else r";.*", "", text)
    text = text.replace(f"{kernel}_kernel", "kernel")
    lines = (line.strip() for line in text.splitlines())
    kept = [line for line in lines if line and not line.startswith(NAMES)]
    numbers: dict[str, str] = {}

    def number(found: re.Match) -> str:
        return numbers.setdefault(found.group(), f"param{len(numbers)}")

    return re.sub(r"kernel_param_\d+", number, "\n".join(kept))


def digests_of(text: str) -> list[str]:
    """Of the text, and of its instructions in any order and any registers."""
    lines = (line for line in text.splitlines() if not line.startswith(".reg "))
    alone = "\n".join(sorted(REGISTER.sub("%", line) for line in lines))
    return [hashlib.blake2b(t.encode(), digest_size=12).hexdigest() for t in (text, alone)]


def compare(before: Path, after: Path) -> int:
    """Say which rows have other instructions, or are in one of the files alone; 1 if there are
    such."""
    old, new = (json.loads(path.read_text()) for path in (before, after))
    none = [None, None]
    rows = {n: (old.get(n, none), new.get(n, none)) for n in sorted(old.keys() | new.keys())}
    moved = [name for name, (a, b) in rows.items() if a[0] != b[0]]
    different = [name for name in moved if rows[name][0][1] != rows[name][1][1]]
    print(f"{len(old)} and {len(new)} rows")
    print(f"{len(moved) - len(different)} of them differ in order or registers alone")
    print(f"{len(different)} have other instructions", *different, sep="\n  ")
    return int(bool(different))


def _without_machine_code(self=None, stages=None, options=None, language=None, capability=None):
    if stages is None:  # asked for what tells this hook from another
        return __file__, __file__
    stages.update(dict.fromkeys(stages.keys() & {"cubin", "hsaco"}, lambda src, metadata: b""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record")
    one.add_argument("file", type=Path)
    one.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    one.add_argument("--text", type=Path, help="a folder that gets the instructions themselves")
    two = commands.add_parser("compare")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "compare":
        return compare(options.before, options.after)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.text or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = record(folder, set(options.targets))
    options.file.write_text(json.dumps(found, indent=0) + "\n")
    print(f"{len(found)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
