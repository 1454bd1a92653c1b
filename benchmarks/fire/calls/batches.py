"""Calls in batches: drawn, made in a process of their own, counted; a fault made small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.fire import record
from benchmarks.fire.calls.arguments import Call, activations, layers, modules, parts
from benchmarks.fire.calls.inits import inits
from benchmarks.fire.calls.invalid import spoilt
from benchmarks.fire.calls.others import others, spoilt_others
from benchmarks.fire.calls.verdict import FAULTS, OUTCOMES, Fault, reproduction, verdict

COLUMNS = ("call", "backend", "times", *OUTCOMES, *FAULTS, "seed", "commit", "torch")
BATCH = 1000  # calls a process


class Family(NamedTuple):
    """Calls that are drawn in one way, and their share of all."""

    draw: Callable[[], st.SearchStrategy[Call]]
    share: float


FAMILIES = {
    "cpp": Family(lambda: layers("cpp"), 0.3),
    "reference": Family(lambda: layers("reference"), 0.1),
    "triton": Family(lambda: layers("triton"), 0.02),
    "parts": Family(parts, 0.12),
    "modules": Family(lambda: modules("cpp"), 0.12),
    "activations": Family(activations, 0.04),
    "inits": Family(inits, 0.06),
    "others": Family(others, 0.04),
    "invalid layers": Family(lambda: spoilt(layers("cpp")), 0.08),
    "invalid parts": Family(lambda: spoilt(parts()), 0.04),
    "invalid modules": Family(lambda: spoilt(modules("cpp")), 0.05),
    "invalid activations": Family(lambda: spoilt(activations()), 0.01),
    "invalid others": Family(spoilt_others, 0.02),
}


class Died(Exception):
    """The process of a call did."""


def tried(call: Call, apart: bool) -> str:
    """What becomes of a call; ``apart`` in a process of its own."""
    if not apart:
        return verdict(call)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # the others have stayed with the parent
            said = verdict(call)
        except Fault as fault:
            said = str(fault)
        except BaseException as error:
            said = f"crash: {error!r}"
        os.write(write, said.encode()[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        raise Fault("crash", f"died of signal {os.WTERMSIG(status)}")
    if said not in OUTCOMES:
        raise Fault(*said.split(": ", 1))
    return said


def batch(family: str, times: int, number: int, apart: bool, now: Path) -> dict[str, Any]:
    """Make so many calls; ``now`` holds the one that is made. What became of them, a list of
    (call, backend, outcome, times), and of faults, as text."""
    counts: Counter[tuple[str, str, str]] = Counter()
    failed: list[tuple[Call, Fault]] = []

    @seed(number)
    @settings(
        max_examples=times,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(call=FAMILIES[family].draw())
    def call_it(call: Call) -> None:
        if not apart:
            now.write_text(reproduction(call))
        try:
            outcome = tried(call, apart)
        except Fault as fault:
            if not failed:
                counts[call.name, call.backend, fault.word] += 1
            failed.append((call, fault))
            raise
        if not failed:
            counts[call.name, call.backend, outcome] += 1

    faults = []
    try:
        call_it()
    except Fault:
        call, fault = failed[-1]
        faults.append(f"{fault}\n{reproduction(call)}")
    return {"counts": [[*key, n] for key, n in counts.items()], "faults": faults}


def in_a_process(family: str, times: int, number: int) -> dict[str, Any]:
    """``batch``, once more call by call if the process died."""
    found: dict[str, Any] = {"counts": [], "faults": []}
    with tempfile.TemporaryDirectory() as folder:
        for apart in (False, True):
            out, now = Path(folder, "out"), Path(folder, "now")
            command = [sys.executable, "-m", "benchmarks.fire.calls", "--batch", family]
            command += ["--times", str(times), "--seed", str(number), "--out", str(out)]
            more = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
            if family == "triton":
                more["TRITON_INTERPRET"] = "1"
            done = subprocess.run(
                command + ["--apart"] * apart, env=os.environ | more, capture_output=True, text=True
            )
            if done.returncode == 0:
                return json.loads(out.read_text())
            said = now.read_text() if now.exists() else ""
            last = "\n".join(done.stderr.splitlines()[-5:])
            found["faults"] = [f"crash: exit status {done.returncode}\n{last}\n{said}"]
            found["counts"] = [[family, "", "crash", 1]]
            if done.returncode > 0:
                break
    return found


def call_all(times: int, number: int, workers: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the table, and the text of every fault."""
    work = []
    for family, (_, share) in FAMILIES.items():
        left = max(1, round(times * share))
        size = 40 if family == "triton" else BATCH
        while left > 0:
            work.append((family, min(left, size), 10_000 * number + len(work)))
            left -= size
    work.sort(key=lambda task: task[0] != "triton")  # the longest first
    counts: dict[tuple[str, str], Counter[str]] = {}
    faults: list[str] = []
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda task: in_a_process(*task), work):
            for name, backend, outcome, n in found["counts"]:
                counts.setdefault((name, backend), Counter())[outcome] += n
            faults += found["faults"]
    made_by = record.made_by(seed=number)
    rows = [
        {"call": name, "backend": backend, "times": found.total(), **found, **made_by}
        for (name, backend), found in sorted(counts.items())
    ]
    return rows, faults
