"""A copy of the project in which files are changed, and tests that run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
PASSED, FAILED, HUNG, CHANGED = "passed", "failed", "hung", "no such test"
ALIKE = "alike"


def copied(to: Path) -> Path:
    """What the repository holds of its own, with the native kernels."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    own = [Path(name) for name in listed.split("\0") if name]
    for path in [*own, *(p.relative_to(ROOT) for p in ROOT.glob("softhebb_fast/_C*.so"))]:
        if (ROOT / path).is_file():
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, to / path)
    return to


class Tests:
    """A process that has imported what all tests need, and forks for each run of some."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fire.mutants.server"],
            cwd=tree,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: Sequence[str], seconds: float, **environment: str) -> tuple[str, str]:
        """What became of the tests, and which failed first or what else was wrong. They may compute
        for so many seconds."""
        asked = {"arguments": list(arguments), "seconds": seconds, "environment": environment}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["outcome"], answer["what"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


_stamp = (
    int(time.time()) + 10_000
)  # no two versions of a file have one time: Python's caches go by it


@contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    """The file has another text for a while."""
    kept = path.read_text(encoding="utf-8")
    try:
        _put(path, text)
        yield
    finally:
        _put(path, kept)


def _put(path: Path, text: str) -> None:
    global _stamp
    _stamp += 2
    path.write_text(text, encoding="utf-8")
    os.utime(path, (_stamp, _stamp))
