"""A pytest plugin between the tests and the PTX emulator, which is reached by their fixture alone.

With SOFTHEBB_FAST_PTX_SEEN=folder it writes there which PTX each test runs and which of its lines.
With SOFTHEBB_FAST_PTX_MUTANT=file, a JSON object of a PTX's digest and another text, it runs that
text in its place. With SOFTHEBB_FAST_PTX_TWINS=folder, too, it runs the one beside the other, on
the numbers of the tests and on others, and makes a file ``twins`` there once they differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

SEEN, MUTANT = "SOFTHEBB_FAST_PTX_SEEN", "SOFTHEBB_FAST_PTX_MUTANT"
TWINS, DIFFER = "SOFTHEBB_FAST_PTX_TWINS", "twins"


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
            if TWINS in os.environ and mutant != text and not differed().exists():
                both = [partial(known, compiled, ptx=twin, **options) for twin in (text, mutant)]
                if differ(*both, *arguments):
                    differed().touch()
                mutant = text
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


def of_all_sizes(shape: torch.Size) -> torch.Tensor:
    return torch.randn(shape) * 2.0 ** torch.randint(-40, 40, shape)


def special(shape: torch.Size) -> torch.Tensor:
    values = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, 3e38, 1e-38, float("inf"), float("nan")])
    return values[torch.randint(len(values), shape)]


OTHERS = (torch.randn, torch.rand, of_all_sizes, special)


def copied(args: list) -> list:
    """Tensors with bytes of their own; views of the same bytes stay so."""
    storages = {}

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        own = tensor.untyped_storage()
        storage = storages.setdefault(own.data_ptr(), own.clone())
        place = tensor.storage_offset(), tensor.shape, tensor.stride()
        return torch.empty(0, dtype=tensor.dtype).set_(storage, *place)

    return [copy(a) if isinstance(a, torch.Tensor) else a for a in args]


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return torch.tensor([], dtype=torch.uint8).set_(tensor.untyped_storage())


def differed() -> Path:
    return Path(os.environ[TWINS], DIFFER)


def differ(first: Callable, second: Callable, grid: tuple, args: list) -> bool:
    """Whether two kernels leave other bits of the same numbers, or race elsewhere."""
    for numbers in (None, *OTHERS):
        given = copied(args)
        for tensor in given:
            if numbers and isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                tensor.copy_(numbers(tensor.shape))
        left, right = copied(given), copied(given)
        try:
            races = first(grid, left)["races"]
        except Exception:
            continue  # numbers that this kernel never meets
        try:
            if second(grid, right)["races"] != races:
                return True
        except Exception:
            return True
        pairs = zip(left, right, strict=True)
        if any(isinstance(a, torch.Tensor) and not torch.equal(bits(a), bits(b)) for a, b in pairs):
            return True
    return False


def see(text: str, compiled, report: dict, idle: set[str]) -> None:
    folder, name = Path(os.environ[SEEN]), digest(text)
    (folder / f"{name}.ptx").write_text(text, encoding="utf-8")
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    seen = {"ptx": name, "test": test, "kernel": compiled.metadata.name}
    seen |= {"not_run": sorted({*report["not_run"], *idle}), "seconds": report["seconds"]}
    with (folder / "seen.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(seen) + "\n")
