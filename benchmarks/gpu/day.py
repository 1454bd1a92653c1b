"""The day a GPU is there: is everything right on it, and how fast is it?

    make gpu        # or: python benchmarks/gpu/day.py

Within ten minutes: every kernel against the definition on the device, compute-sanitizer where it is
installed, then the benchmarks. Writes benchmarks/results/gpu_<name>.csv and .md, and logs under
runs/gpu. Returns 0 if all is well, 1 if something is wrong, 2 where nothing can be tried.
Needs nothing but Python itself: the parts run in the interpreter that has torch.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "runs" / "gpu"
RESULTS = ROOT / "benchmarks" / "results"
BUDGET = 590  # seconds for all parts together
CASES = (  # what tells most comes first: what there is no time for is left out
    "cifar10/step/b10",
    "cifar10/step/b100",
    "cifar10/layer?/b100",
    "cifar10/layer?/b10",
    "mnist-mlp/step/b32",
    "stl10/layer[12]/b32",
    "cifar10/probe/b64",
)
PROVIDERS = (
    "published",
    "published-tf32",
    "tuned-tf32",
    "triton",
    "triton-tf32",
    "triton-graph",
    "triton-graph-tf32",
    "library",
    "library-tf32",
)
SMALL = "test_steps_and_blocks and ieee and soft_anti and (colour or channels_last)"
FOUND = 99  # what the sanitizer is told to return where it finds something
PROBE = """
import importlib.util, json, torch
needed = ("triton", "numpy", "tqdm", "matplotlib", "pooch", "platformdirs", "PIL", "pytest",
          "hypothesis")
print(json.dumps({
    "missing": [name for name in needed if importlib.util.find_spec(name) is None],
    "cuda": torch.cuda.is_available(),
    "name": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    "torch": torch.__version__,
    "xdist": importlib.util.find_spec("xdist") is not None,
}))
"""


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit status, or None where it ran out of time, and its output."""

    status: int | None
    text: str


@dataclass(frozen=True)
class Part:
    """What a part of the day came to: ``"passed"``, ``"failed"`` or ``"left out"``, and why."""

    name: str
    outcome: str
    note: str
    seconds: float


Run = Callable[[Sequence[str], float], Done]


def run(command: Sequence[str], seconds: float) -> Done:
    """Run ``command`` in the checkout for so many seconds at most, with all that it started."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            text, _ = process.communicate(timeout=seconds)
            return Done(process.returncode, text)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Done(None, process.communicate()[0])


class Day:
    """The parts of the day in their order, within ``BUDGET`` seconds."""

    def __init__(
        self,
        run: Run = run,
        which: Callable[[str], str | None] = shutil.which,
        clock: Callable[[], float] = time.monotonic,
        results: Path = RESULTS,
        logs: Path = LOGS,
    ) -> None:
        self.run, self.which, self.clock = run, which, clock
        self.results, self.logs = results, logs
        self.began = clock()
        self.parts: list[Part] = []

    def go(self) -> int:
        """Do all parts; returns the exit status."""
        gpus = self.gpus()
        if not gpus:
            print("make gpu is for a machine with a GPU: neither nvidia-smi nor rocm-smi finds one")
            return 2
        print(gpus.strip(), flush=True)
        python, here = self.interpreter()
        if python is None:
            print(here)
            return 2
        name = re.sub(r"[^a-z0-9]+", "_", here["name"].lower()).strip("_")
        table = self.results / f"gpu_{name}.csv"
        self.part("device", [python, "-m", "softhebb_fast", "info"], 60)
        right = self.correctness(python, here["xdist"]) and self.sanitizers(python)
        if right:
            self.benchmark(python, table)
        summary = self.write_summary(here, gpus, table, name)
        print(f"\n{summary.read_text()}\nwritten: {summary}")
        return int(any(part.outcome == "failed" for part in self.parts))

    def gpus(self) -> str:
        """What the driver's own tool lists; nothing where there is no GPU."""
        for command in (["nvidia-smi", "-L"], ["rocm-smi", "--showproductname"]):
            if self.which(command[0]):
                done = self.run(command, 30)
                if done.status == 0 and "GPU" in done.text:
                    return done.text
        return ""

    def interpreter(self) -> tuple[str, dict] | tuple[None, str]:
        """A Python whose torch sees the GPU, made by ``make setup`` if need be; or why none."""
        own = str(ROOT / ".venv" / "bin" / "python")
        reasons = []
        for python in (*dict.fromkeys((own, sys.executable)), None, own):
            if python is None:
                print("setting up .venv", flush=True)
                self.run(["make", "setup"], 240)
                continue
            done = self.run([python, "-c", PROBE], 90) if self.which(python) else None
            if done is None or done.status != 0:
                reasons.append(f"{python} has no torch")
                continue
            here = json.loads(done.text.strip().splitlines()[-1])
            if here["cuda"] and not here["missing"]:
                return python, here
            lacks = ", ".join(here["missing"]) or f"a torch for this GPU, it has {here['torch']}"
            reasons.append(f"{python} lacks {lacks}")
        return None, "nothing here can run the kernels: " + "; ".join(dict.fromkeys(reasons))

    def correctness(self, python: str, parallel: bool) -> bool:
        """Every kernel, operator and graph against the definition, on the device."""
        command = [python, "-m", "pytest", "tests/gpu", "-p", "no:cacheprovider"]
        if parallel:  # each case is a kernel to compile
            workers = str(min(16, os.cpu_count() or 1))
            command += ["-m", "gpu", "-n", workers]
        else:
            command += ["-m", "gpu and not slow"]
        return self.part("correctness", command, 300)

    def sanitizers(self, python: str) -> bool:
        """Out-of-bounds accesses and races, on a few small layers. False where some are found."""
        tool = self.which("compute-sanitizer")
        tests = ["-m", "pytest", "tests/gpu/test_operators.py", "-m", "gpu", "-k", SMALL]
        for check in ("memcheck", "racecheck"):
            if tool is None:
                self.leave_out(check, "compute-sanitizer is not on the PATH")
                continue
            command = [tool, "--tool", check, "--error-exitcode", str(FOUND), python, *tests]
            # Every tensor an allocation of its own: what lies beyond its end belongs to nobody.
            command = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", *command]
            self.part(check, command, 60, wrong=(FOUND,))
        return not any(part.outcome == "failed" for part in self.parts)

    def benchmark(self, python: str, table: Path) -> None:
        """The suite, case by case: what is done when time is up is kept."""
        command = [python, "-m", "softhebb_fast", "bench", *CASES, "--device", "cuda"]
        command += ["--providers", ",".join(PROVIDERS), "--seconds", "3", "--longest", "2"]
        self.part("benchmark", [*command, "--csv", str(table)], 300, wrong=(1,))

    def part(
        self, name: str, command: list[str], seconds: float, wrong: tuple[int, ...] | None = None
    ) -> bool:
        """Run a part in the time that is left; True if it did not fail.

        With ``wrong`` only those exit statuses are failures: any other, or no time, is a note.
        """
        left = BUDGET - (self.clock() - self.began)
        if left < 5:
            return self.leave_out(name, "no time was left")
        print(f"{name} ...", flush=True)
        began, most = self.clock(), min(seconds, left)
        done = self.run(command, most)
        took = self.clock() - began
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        log.write_text(done.text, encoding="utf-8")
        last = next((line for line in reversed(done.text.splitlines()) if line.strip()), "")
        if done.status == 0:
            outcome, note = "passed", last
        elif done.status is None:
            outcome, note = "left out", f"not done in {most:.0f} s, see {log}"
        else:
            outcome, note = "left out", f"exit status {done.status}: {last}, see {log}"
        if done.status != 0 and (wrong is None or done.status in wrong):
            outcome = "failed"
            print("\n".join(done.text.splitlines()[-40:]))
        self.parts.append(Part(name, outcome, note, took))
        print(f"{name}: {outcome} in {took:.0f} s. {note}", flush=True)
        return outcome != "failed"

    def leave_out(self, name: str, why: str) -> bool:
        self.parts.append(Part(name, "left out", why, 0.0))
        print(f"{name}: left out: {why}", flush=True)
        return True

    def write_summary(self, here: dict, gpus: str, table: Path, name: str) -> Path:
        """``gpu_<name>.md``: the device, what each part came to, and the times."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
        lines = [
            f"# {here['name']}",
            "",
            f"{now}, torch {here['torch']}. Made by `make gpu`.",
            "",
            "```",
            gpus.strip(),
            "```",
            "",
            "| part | | seconds | |",
            "|---|---|---|---|",
            *(
                f"| {p.name} | {p.outcome} | {p.seconds:.0f} | {p.note.replace('|', '/')} |"
                for p in self.parts
            ),
        ]
        if any(part.name == "benchmark" for part in self.parts) and table.exists():
            with open(table, newline="", encoding="utf-8") as file:
                lines += ["", *times(list(csv.DictReader(file)))]
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / f"gpu_{name}.md"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def times(rows: list[dict[str, str]]) -> list[str]:
    """A Markdown table of the benchmark's rows: microseconds, and how often into the published."""
    lines = [
        "| case | provider | median µs | 20 % | 80 % | published / this |",
        "|---|---|---|---|---|---|",
    ]
    published = {r["case"]: float(r["median"]) for r in rows if r["provider"] == "published"}
    for row in rows:
        low, middle, high = (float(row[name]) for name in ("q20", "median", "q80"))
        times = f"{published[row['case']] / middle:.1f}" if row["case"] in published else ""
        cells = (f"{1e6 * value:.1f}" for value in (middle, low, high))
        lines.append(f"| {row['case']} | {row['provider']} | {' | '.join(cells)} | {times} |")
    return lines


if __name__ == "__main__":
    sys.exit(Day().go())
