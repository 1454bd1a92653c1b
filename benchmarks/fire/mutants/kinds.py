"""What is mutated, of which kind, and what tests a mutant must get past."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from benchmarks.fire.mutants import launches, library, native, ptx, python, reach
from benchmarks.fire.mutants.edits import Edit
from benchmarks.fire.mutants.tree import ALIKE, CHANGED, FAILED, HUNG, PASSED, Tests, changed

PYTHON = (
    "softhebb_fast/reference/*.py",
    "softhebb_fast/optim/*.py",
    "softhebb_fast/data/*.py",
    "softhebb_fast/training/classifier.py",
    "softhebb_fast/training/fused_classifier.py",
    "softhebb_fast/training/cholesky.py",
    "softhebb_fast/training/ridge*.py",
    "softhebb_fast/training/*stage.py",
)
PYTHON_TESTS = (
    "tests/test_reference.py",
    "tests/test_optim.py",
    "tests/test_ties.py",
    "tests/data",
    "tests/optim",
    "tests/ops",
    "tests/functional",
    "tests/rules",
    "tests/nn",
    "tests/training",
    "tests/cpp/test_layer.py",
    "tests/cpp/test_step.py",
    "tests/cli/test_data.py",
)
INTERPRETED = "tests/kernels/test_interpreter.py::test_kernels_in_the_interpreter"
ELSEWHERE = {  # tests that reach a file in a process of their own
    "softhebb_fast/training/fused_classifier.py": [
        f"{INTERPRETED}[not slow-interpreted_classifier.py]"
    ]
}
NATIVE = ("csrc/*.cpp", "csrc/*.h")
OTHER_SETS = re.compile("multiversion|amx")  # of instruction sets that are not built here
NATIVE_TESTS = (
    ("tests/test_ties.py", "tests/cpp/test_step.py", "tests/cpp/test_layer.py"),
    (
        "tests/cpp/test_winograd.py",
        "tests/cpp/test_bf16x3.py",
        "tests/nn/test_dropout.py",
        "tests/nn/test_blocks.py",
        "tests/functional",
        "tests/rules/test_native.py",
    ),
)
PTX_TESTS = (
    "tests/kernels/test_emulator_classifier.py",
    "tests/kernels/test_emulator_rules.py",
    "tests/kernels/test_emulator_blocks.py",
    "tests/kernels/test_emulator.py",
    "tests/kernels/test_ptx_lines.py",
)
FIRST, MOST = 16, 80  # tests that are tried before the others, and in all


class Mutant(NamedTuple):
    file: str  # of a source, or the name of a kernel
    text: str  # that it mutates
    edit: Edit

    @property
    def row(self) -> dict[str, str | int]:
        before, after = self.edit.shown(self.text)
        line = self.edit.line(self.text)
        row = {"file": self.file, "line": line, "change": self.edit.change}
        return row | {"before": before, "after": after}


class Kind:
    """Mutants of one kind, in a copied tree."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.tree, self.folder, self.tests = tree, folder, Tests(tree)

    def mutants(self) -> list[Mutant]:
        raise NotImplementedError

    def outcome(self, mutant: Mutant) -> tuple[str, str] | None:
        """What became of it, and by what; None if it is no mutant."""
        raise NotImplementedError

    def drawn(self, rng: random.Random) -> Iterator[Mutant]:
        """All, in a random order."""
        every = self.mutants()
        return iter(rng.sample(every, len(every)))

    def past(self, steps: list[tuple[list[str], float]], **environment: str) -> tuple[str, str]:
        """The first outcome that is not a pass, of tests with their limits in seconds."""
        for tests, limit in steps:
            outcome, what = self.tests.run(tests, limit, **environment)
            if outcome == CHANGED:  # the names of tests have changed
                files = sorted({test.partition("::")[0] for test in tests})
                outcome, what = self.tests.run(files, limit, **environment)
                outcome = FAILED if outcome == CHANGED else outcome
            if outcome in (FAILED, HUNG):
                return outcome, what
        return PASSED, ""

    def close(self) -> None:
        self.tests.close()


def _sources(tree: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    paths = sorted(path for pattern in patterns for path in tree.glob(pattern))
    return {str(p.relative_to(tree)): p.read_text(encoding="utf-8") for p in paths}


class Python(Kind):
    def __init__(self, tree: Path, folder: Path) -> None:
        super().__init__(tree, folder)
        if not (folder / "tests.xml").exists():
            reach.record(folder, tree, PYTHON, PYTHON_TESTS)
        self.reach = reach.Reach(folder)

    def mutants(self) -> list[Mutant]:
        texts = _sources(self.tree, PYTHON).items()
        return [Mutant(name, text, edit) for name, text in texts for edit in python.edits(text)]

    def outcome(self, mutant: Mutant) -> tuple[str, str] | None:
        after = mutant.edit.applied(mutant.text)
        try:
            compile(after, mutant.file, "exec")
        except SyntaxError:
            return None
        first = mutant.edit.line(mutant.text)
        old = mutant.text[mutant.edit.begin : mutant.edit.end]
        tests = self.reach.tests(mutant.file, range(first, first + old.count("\n") + 1))
        steps = [tests[:FIRST], tests[FIRST:MOST], ELSEWHERE.get(mutant.file, [])]
        limited = [(step, 90 + 5 * self.reach.lasts(step)) for step in steps if step]
        with changed(self.tree / mutant.file, after):
            return self.past(limited)


class Native(Kind):
    def __init__(self, tree: Path, folder: Path) -> None:
        super().__init__(tree, folder)
        if not (tree / "build").exists():
            library.prepare(tree)
        if not library.built(tree):
            raise RuntimeError("the native kernels do not build")

    def mutants(self) -> list[Mutant]:
        texts = {n: t for n, t in _sources(self.tree, NATIVE).items() if not OTHER_SETS.search(n)}
        return [Mutant(n, text, edit) for n, text in texts.items() for edit in native.edits(text)]

    def outcome(self, mutant: Mutant) -> tuple[str, str] | None:
        with changed(self.tree / mutant.file, mutant.edit.applied(mutant.text)):
            if not library.built(self.tree):
                return None
            return self.past([(list(tests), 600) for tests in NATIVE_TESTS])


class Ptx(Kind):
    """Of every kernel as many."""

    def __init__(self, tree: Path, folder: Path) -> None:
        from tests.kernels.conftest import FOLDER, load_emulator

        load_emulator()  # or say where it is not
        os.environ["SOFTHEBB_FAST_EMULATOR"] = str(FOLDER)
        super().__init__(tree, folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "seen.jsonl").exists():
            outcome, what = self.plugged(list(PTX_TESTS), 3600, **{launches.SEEN: str(folder)})
            if outcome != PASSED:
                raise RuntimeError(f"tests fail without a mutation: {what}")
        with (folder / "seen.jsonl").open(encoding="utf-8") as file:
            self.seen = [json.loads(line) for line in file]

    def plugged(self, tests: list[str], limit: float, **environment: str) -> tuple[str, str]:
        plugin = ["-p", "benchmarks.fire.mutants.launches"]
        return self.past([([*plugin, *tests], limit)], **environment)

    def text(self, digest: str) -> str:
        return (self.folder / f"{digest}.ptx").read_text(encoding="utf-8")

    def dead(self, digest: str) -> set[str]:
        """The instructions that no test runs."""
        runs = [set(seen["not_run"]) for seen in self.seen if seen["ptx"] == digest]
        return set.intersection(*runs)

    def mutants(self) -> list[Mutant]:
        kernels = {seen["ptx"]: seen["kernel"] for seen in self.seen}
        return [
            Mutant(kernel, text, edit)
            for digest, kernel in sorted(kernels.items())
            for text in [self.text(digest)]
            for edit in ptx.edits(text, self.dead(digest))
        ]

    def drawn(self, rng: random.Random) -> Iterator[Mutant]:
        own: dict[str, list[Mutant]] = {}
        for mutant in super().drawn(rng):
            own.setdefault(mutant.file, []).append(mutant)
        turns = zip_longest(*(own[kernel] for kernel in sorted(own)))
        return (mutant for turn in turns for mutant in turn if mutant)

    def outcome(self, mutant: Mutant) -> tuple[str, str] | None:
        after, digest = mutant.edit.applied(mutant.text), launches.digest(mutant.text)
        if not _assembles(after):
            return None
        mutated = self.folder / "mutant.json"
        mutated.write_text(json.dumps({digest: after}), encoding="utf-8")
        own = [seen for seen in self.seen if seen["ptx"] == digest]
        lasts: dict[str, float] = {}
        for seen in own:
            lasts[seen["test"]] = lasts.get(seen["test"], 0) + seen["seconds"]
        tests = sorted(lasts, key=lasts.get)
        limit = 120 + 10 * sum(lasts.values())
        named = {launches.MUTANT: str(mutated)}
        outcome, what = self.plugged(tests, limit, **named)
        if outcome == PASSED and not self._differs(tests, 10 * limit, named):
            return ALIKE, "the same bits, of the tests' numbers and of others"
        return outcome, what

    def _differs(self, tests: list[str], limit: float, named: dict[str, str]) -> bool:
        """Whether a mutant leaves other bits than its kernel in any launch of the tests."""
        found = self.folder / launches.DIFFER
        found.unlink(missing_ok=True)
        outcome, what = self.plugged(tests, limit, **named, **{launches.TWINS: str(self.folder)})
        if outcome != PASSED:
            raise RuntimeError(f"tests fail beside a mutant that passes them: {what}")
        return found.exists()


def _assembles(text: str) -> bool:
    from benchmarks.gpu.offline import TOOLS

    target = re.search(r"^\.target\s+(\w+)", text, re.M).group(1)
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(text)
        file.flush()
        newest = max(TOOLS.glob("ptxas*"), key=lambda path: len(path.name))  # ptxas-blackwell
        command = [newest, "-O0", f"-arch={target}", file.name, "-o", "/dev/null"]
        return subprocess.run(command, capture_output=True).returncode == 0


KINDS = {"python": Python, "native": Native, "ptx": Ptx}
