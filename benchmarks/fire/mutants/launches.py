"""A pytest plugin between the tests and the PTX emulator, which is reached by their fixture alone.

With SOFTHEBB_FAST_PTX_SEEN=folder it writes there which PTX each test runs and which of its lines.
With SOFTHEBB_FAST_PTX_MUTANT=file, a JSON object of a PTX's digest and another text, it runs that
text in its place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest

SEEN, MUTANT = "SOFTHEBB_FAST_PTX_SEEN", "SOFTHEBB_FAST_PTX_MUTANT"


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    result = yield
    if fixturedef.argname == "emulator":
        known, steps = result.run, Counter()

        def run(compiled, *arguments, ptx=None, **options):
            text = ptx or compiled.asm["ptx"]
            mutant = mutants().get(digest(text), text)
            steps.clear()
            report = known(compiled, *arguments, ptx=mutant, **options)
            if SEEN in os.environ:
                see(
                    text, compiled, report, {line for line, threads in steps.items() if not threads}
                )
            return report

        result.run = run
        if SEEN in os.environ:
            count_threads(result.Machine, steps)
    return result


def count_threads(machine: type, steps: Counter[str]) -> None:
    """Of every instruction that is reached, by its first 60 characters: does a thread do it?"""
    known = machine.step

    def step(self, op, kinds, operands, mask, text):
        steps[text[:60]] += mask is None or bool(mask.any())
        return known(self, op, kinds, operands, mask, text)

    machine.step = step


def mutants() -> dict[str, str]:
    """Of the PTX of a digest, another text."""
    return json.loads(Path(os.environ[MUTANT]).read_text()) if MUTANT in os.environ else {}


def see(text: str, compiled, report: dict, idle: set[str]) -> None:
    folder, name = Path(os.environ[SEEN]), digest(text)
    (folder / f"{name}.ptx").write_text(text, encoding="utf-8")
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    seen = {"ptx": name, "test": test, "kernel": compiled.metadata.name}
    seen |= {"not_run": sorted({*report["not_run"], *idle}), "seconds": report["seconds"]}
    with (folder / "seen.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(seen) + "\n")
