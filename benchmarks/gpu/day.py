"""The minutes that a GPU is there: is everything right on it, and how fast is it?

    make gpu OUT=folder DATA=folder      # or: python -m benchmarks.gpu.day --out folder
    python -m benchmarks.gpu.day --dry-run
    python -m benchmarks.gpu.day --rehearse    # every part on the CPU, as far as that goes

Parts in the order of what they tell, each killed at its time and its result kept. ``--out`` gets a
CSV file a part, ``log.txt`` with all that the parts printed, and ``summary.md``, which is written
anew after every part. Returns 0 if all is well, 1 if a part found something wrong, 2 where nothing
can be tried. Needs nothing but Python itself: the parts run in the interpreter that has torch.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.parts import Part, parts, rehearsal

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 9.0
PROBE = """
import importlib.util, json, platform, torch
needed = ("triton", "numpy", "tqdm", "matplotlib", "pooch", "platformdirs", "PIL", "pytest",
          "hypothesis")
found = [name for name in needed if importlib.util.find_spec(name) is not None]
triton = __import__("triton").__version__ if "triton" in found else None
print(json.dumps({
    "missing": [name for name in needed if name not in found],
    "cuda": torch.cuda.is_available(),
    "name": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    "versions": f"Python {platform.python_version()}, torch {torch.__version__}, Triton {triton}",
    "xdist": importlib.util.find_spec("xdist") is not None,
}))
"""


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit status, or None where it ran out of time, and its output."""

    status: int | None
    text: str


@dataclass(frozen=True)
class Result:
    """What a part came to: ``"passed"``, ``"failed"`` or ``"left out"``, and its last line."""

    name: str
    outcome: str
    note: str
    seconds: float


Run = Callable[[Sequence[str], float], Done]


class Day:
    """The parts in their order, within so many minutes."""

    def __init__(
        self,
        out: Path,
        minutes: float = MINUTES,
        run: Run | None = None,
        which: Callable[[str], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.out, self.run, self.which, self.clock = out, run or self._run, which or tool, clock
        self.began = clock()
        self.ends = self.began + 60 * minutes
        self.results: list[Result] = []

    def go(self, plan: Sequence[Part], here: str) -> int:
        """Do ``plan`` on the device that ``here`` names; returns the exit status."""
        self.out.mkdir(parents=True, exist_ok=True)
        for part in plan:
            self.results.append(self.do(part))
            self.summarise(plan, here)
        print((self.out / "summary.md").read_text(encoding="utf-8"))
        return int(any(result.outcome == "failed" for result in self.results))

    def do(self, part: Part) -> Result:
        began = self.clock()
        most = min(part.seconds, self.ends - began)
        found = part.needs and self.which(part.needs)
        if part.needs is not None and found is None:
            note = f"{part.needs} is not on the PATH and in no CUDA toolkit"
            return self.say(Result(part.name, "left out", note, 0))
        if most < 5:
            return self.say(Result(part.name, "left out", "no time was left", 0))
        done = self.run([found if word == part.needs else word for word in part.command], most)
        took = self.clock() - began
        last = next((line for line in reversed(done.text.splitlines()) if line.strip()), "")
        outcome, note = "passed", last
        if done.status != 0:
            outcome = "failed" if done.status in part.wrong else "left out"
            how = (
                f"exit status {done.status}" if done.status is not None else f"cut at {most:.0f} s"
            )
            note = f"{how}: {last}"
        return self.say(Result(part.name, outcome, note, took))

    def say(self, result: Result) -> Result:
        print(
            f"{self.clock() - self.began:6.1f} s  {result.name}: {result.outcome} in "
            f"{result.seconds:.0f} s. {result.note}",
            flush=True,
        )
        return result

    def summarise(self, plan: Sequence[Part], here: str) -> None:
        """Write ``summary.md``: the device, what each part came to, and the tables."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
        lines = [f"# {here}", "", f"{now}, made by `make gpu`.", "", "| part | | s | last line |"]
        lines += ["|---|---|---|---|"]
        for r in self.results:
            lines.append(f"| {r.name} | {r.outcome} | {r.seconds:.0f} | {_cell(r.note)} |")
        done = {r.name for r in self.results}
        for part in plan:
            path = self.out / (part.table or "")
            if part.name in done and path.is_file():
                lines += ["", f"## {part.name}", "", *_table(path)]
        (self.out / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _run(self, command: Sequence[str], seconds: float) -> Done:
        """Run ``command`` in the checkout for so many seconds at most, with all that it started;
        what it prints goes to the log as it comes."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.out / "log.txt", "a+", encoding="utf-8", errors="replace") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            start = log.tell()
            with subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process:
                try:
                    status = process.wait(seconds)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    status = None
            log.seek(start)
            return Done(status, log.read())


def tool(name: str) -> str | None:
    """Where the program ``name`` is: on the PATH, or in the CUDA toolkit of this machine."""
    toolkits = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [os.path.join(place, "bin") for place in toolkits if place]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))


def usable(run: Run, which: Callable[[str], str | None], cuda: bool = True) -> tuple[str, dict]:
    """A Python whose torch sees the GPU, and what it says of itself. Raises RuntimeError if none
    does."""
    reasons = []
    for python in dict.fromkeys((str(ROOT / ".venv" / "bin" / "python"), sys.executable)):
        done = run([python, "-c", PROBE], 90) if which(python) else None
        if done is None or done.status != 0:
            reasons.append(f"{python} has no torch")
            continue
        here = json.loads(done.text.strip().splitlines()[-1])
        if (here["cuda"] or not cuda) and not here["missing"]:
            return python, here
        lacks = ", ".join(here["missing"]) or f"a torch for a GPU here, it has {here['versions']}"
        reasons.append(f"{python} lacks {lacks}")
    raise RuntimeError("nothing here can run the kernels: " + "; ".join(reasons))


def _cell(text: str) -> str:
    return text.replace("|", "/")[:160]


def _table(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu", help="folder of results")
    parser.add_argument("--data", type=Path, help="folder of the data sets, with CIFAR-10")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together")
    parser.add_argument("--parts", help="names, separated by commas; default all")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    parser.add_argument(
        "--rehearse", action="store_true", help="run all parts on the CPU, on little"
    )
    options = parser.parse_args()
    out = options.out.resolve()
    data = options.data and options.data.resolve()
    day = Day(out, 60 if options.rehearse else options.minutes)
    if options.dry_run:
        python, here = sys.executable, {"name": "dry run", "versions": "", "xdist": True}
    else:
        try:
            python, here = usable(day.run, day.which, cuda=not options.rehearse)
        except RuntimeError as error:
            print(f"make gpu is for a machine with a GPU: {error}")
            return 2
    plan = parts(python, out, data, here["xdist"])
    if options.parts:
        wanted = options.parts.split(",")
        if unknown := set(wanted) - {part.name for part in plan}:
            parser.error(f"--parts must be among {', '.join(p.name for p in plan)}; got {unknown}")
        plan = [part for part in plan if part.name in wanted]
    if options.rehearse:
        os.environ["SOFTHEBB_FAST_REHEARSAL"] = "cpu"
        plan = [rehearsal(part) for part in plan if part.needs is None]
    if options.dry_run:
        for part in plan:
            print(f"{part.name}, {part.seconds:.0f} s at most:\n  {' '.join(part.command)}")
        return 0
    return day.go(plan, f"{here['name'] or 'rehearsed on the CPU'}, {here['versions']}")


if __name__ == "__main__":
    sys.exit(main())
