"""Which tests run which lines, by coverage.py: a mutant is tried on those that reach it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from coverage import CoverageData


class Reach:
    """Of lines, the tests that run them: four of each file in turn, the quickest first."""

    def __init__(self, folder: Path) -> None:
        self.data = CoverageData(str(folder / "coverage"))
        self.data.read()
        self.seconds = seconds(folder / "tests.xml")

    def tests(self, file: str, lines: range) -> list[str]:
        """Those that run one of ``lines``; where these run on import alone, all of the file's."""
        by_line = self.data.contexts_by_lineno(file)
        found = {_test(c) for line in lines for c in by_line.get(line, ())} - {""}
        if not found:
            found = {_test(c) for contexts in by_line.values() for c in contexts} - {""}
        own, turn, counts = f"test_{Path(file).stem}.py", {}, Counter()
        for test in sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test)):
            of = test.partition("::")[0]
            turn[test] = (counts[of] // 4, not of.endswith(own), len(turn))
            counts[of] += 1
        return sorted(found, key=turn.get)

    def lasts(self, tests: Sequence[str]) -> float:
        """Seconds."""
        return sum(self.seconds.get(test, 0.0) for test in tests)


def _test(context: str) -> str:
    return context.rpartition("|")[0]


def seconds(path: Path) -> dict[str, float]:
    """How long each test took, from pytest's report in XML."""
    found = {}
    for case in xml.parse(path).iter("testcase"):
        name = f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}"
        found[name] = float(case.get("time"))
    return found


def record(folder: Path, tree: Path, files: Sequence[str], tests: Sequence[str]) -> Reach:
    """Run ``tests`` in ``tree`` and write into ``folder`` which run what of ``files``."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "settings"
    settings.write_text(
        "[run]\nrelative_files = True\ninclude =\n" + "".join(f"    {file}\n" for file in files)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    command += ["--cov", f"--cov-config={settings}", "--cov-context=test", "--cov-report="]
    done = subprocess.run(
        [*command, f"--junitxml={folder / 'tests.xml'}", *tests],
        cwd=tree,
        env=os.environ | {"COVERAGE_FILE": str(folder / "coverage")},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"tests fail without a mutation:\n{done.stdout[-3000:]}")
    return Reach(folder)
