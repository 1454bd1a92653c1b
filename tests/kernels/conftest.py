"""Fixtures of the kernel tests. This file alone knows where the PTX emulator lies."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.kernels.in_turn import LATER, in_turn

FOLDER = os.environ.get(
    "SOFTHEBB_FAST_EMULATOR", Path(__file__).parents[2].parent / "shared" / "gpu"
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The interpreter takes seconds a case: of its tests all but the first two cases are slow."""
    cases = Counter()
    for item in items:
        if item.path.name.startswith("interpreted"):
            cases[item.path, item.originalname] += 1
            if cases[item.path, item.originalname] > 2:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def nothing_remembered():
    """Tests change the tables of configurations, which are looked up once a layer and shape."""
    forget()
    yield
    forget()


def forget() -> None:
    configs = sys.modules.get("softhebb_fast.kernels.configs")
    for remembered in () if configs is None else (configs._forward, configs._plasticity):
        remembered.cache_clear()


def load_emulator() -> ModuleType:
    """The PTX emulator; FileNotFoundError says where it was looked for."""
    path = Path(FOLDER, "ptx_emulator.py")
    if not path.exists():
        raise FileNotFoundError(
            f"no PTX emulator at {path}; name its folder in SOFTHEBB_FAST_EMULATOR"
        )
    spec = importlib.util.spec_from_file_location("ptx_emulator", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    _teach_pairs_of_16_bits(module)
    _let_programs_elsewhere_read_nothing(module)
    return module


@pytest.fixture(scope="session")
def emulator() -> ModuleType:
    pytest.importorskip("triton")
    try:
        return load_emulator()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def emulated(emulator, monkeypatch):
    """Calls a function with every launch emulated; gives its result and the reports.

    ``at_a_time`` runs all programs of a launch in step, so that they wait for each other;
    ``overlaps`` as in ``launches_go_to``.
    """

    from benchmarks.gpu.offline import Launch, launches_go_to

    def run(target, precision, call, at_a_time=False, overlaps=False, **options):
        reports = []
        torch.use_deterministic_algorithms(True, warn_only=True)  # unwritten memory is NaN
        monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)

        def emulate(launch: Launch):
            work = partial(launched(emulator, launch, target, **options), launch.source()[1])
            row_counters = launch.named.get("row_counters")
            report = work(batch=launch.grid[0]) if at_a_time else in_turn(row_counters, work)
            reports.append(report | {"kernel": launch.name})

        try:
            with launches_go_to(emulate, target, overlaps):
                return call(), reports
        finally:
            torch.use_deterministic_algorithms(False)

    return run


@pytest.fixture
def shortened(emulator, monkeypatch):
    """Calls a function, each launch emulated with each of its tensors one element short in turn.

    Gives what was tried and what did not fault, as (kernel, parameter).
    """

    from benchmarks.gpu.offline import Launch, launches_go_to

    def run(target, precision, call):
        tried, passed = [], []
        monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)

        def shorten(launch: Launch):
            args = launch.source()[1]
            names = [name for name, a in launch.given if a is not None]
            work = launched(emulator, launch, target)
            row_counters = launch.named.get("row_counters")
            if row_counters is not None:
                row_counters.fill_(LATER)
            for i, short in enumerate(args):
                if isinstance(short, torch.Tensor):
                    cut = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
                    storage = cut[i].untyped_storage()
                    storage.resize_(storage.nbytes() - short.element_size())
                    tried.append((launch.name, names[i]))
                    try:
                        work(cut)
                    except emulator.Fault as fault:
                        if "out-of-bounds" in str(fault) and f"arg{i}" in str(fault):
                            continue
                    passed.append(tried[-1])
            in_turn(row_counters, partial(work, args))

        with launches_go_to(shorten, target):
            call()
        return tried, passed

    return run


@pytest.fixture
def backwards(emulator, monkeypatch):
    """Called, it lets the programs of a launch run from the last to the first."""

    class Backwards(emulator.Machine):
        def __init__(self, k, arena, ntid, smem, ctas, grid, *rest):
            ctas = [tuple(n - 1 - i for n, i in zip(grid, at, strict=True)) for at in ctas]
            super().__init__(k, arena, ntid, smem, ctas, grid, *rest)

    return lambda: monkeypatch.setattr(emulator, "Machine", Backwards)


def launched(emulator: ModuleType, launch, target: str, **options):
    """The emulator's run of one launch, waiting for its arguments."""
    return partial(emulator.run, launch.compile(target), launch.grid, **options)


def _teach_pairs_of_16_bits(module: ModuleType) -> None:
    """Add the ``.s16x2`` and ``.u16x2`` instructions, which LLVM emits for Hopper."""
    known = module.Machine.step

    def step(self, op, mods, ops, mask, text):
        kind = next((m for m in mods if m in ("s16x2", "u16x2")), None)
        if kind is None:
            return known(self, op, mods, ops, mask, text)
        result = np.zeros(self.T, np.uint32)
        for shift in (np.uint32(0), np.uint32(16)):
            parts = [
                ((self.raw(o, 32) >> shift) & np.uint32(0xFFFF)).astype(np.uint16) for o in ops[1:]
            ]
            parts = [p.view(np.int16) if kind[0] == "s" else p for p in parts]
            value = self.arith(op, parts, kind[:3], mods)
            result |= value.astype(np.uint16).astype(np.uint32) << shift
        return self.put(ops[0], result, "b32", mask)

    module.Machine.step = step


def _let_programs_elsewhere_read_nothing(module: ModuleType) -> None:
    """``ldmatrix`` of some programs of a batch is no read of those that are in another branch."""
    known = module.Machine.step

    def step(self, op, mods, ops, mask, text):
        if op != "ldmatrix" or mask is None:
            return known(self, op, mods, ops, mask, text)
        here, check = np.isin(self.cta, self.cta[mask]), self.check
        self.check = lambda i, n, m, *rest: check(i, n, here if m is None else m & here, *rest)
        try:
            return known(self, op, mods, ops, mask, text)
        finally:
            del self.check

    module.Machine.step = step
