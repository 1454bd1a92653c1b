"""Runs tests on request, each time in a fork: what they import from elsewhere is there already.

One request a line, one answer a line. Started by `tree.Tests` in the folder of the tests.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

IMPORTED = ("torch", "numpy", "pytest", "hypothesis", "triton", "PIL.Image", "matplotlib.pyplot",
            "torch._dynamo", "torch._inductor.config", "torch.utils.data", "tqdm")  # fmt: skip
WAITS = 10  # times as long as it may compute
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line", "-rfE")


def run(asked: dict, report: Path) -> None:
    """In a fork; its exit status is pytest's."""
    os.setsid()
    os.environ.update(asked["environment"])
    seconds = int(asked["seconds"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    output = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    import pytest

    status = 70
    try:
        status = int(pytest.main([*OPTIONS, *asked["arguments"]]))
    finally:
        sys.stdout.flush()
        os._exit(status)


def waited(process: int, seconds: float) -> int | None:
    """Its exit status, negative for a signal; None if it had to be killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def answer(asked: dict, report: Path) -> dict[str, str]:
    process = os.fork()
    if process == 0:
        run(asked, report)
    status = waited(process, WAITS * asked["seconds"])
    lines = report.read_text(encoding="utf-8", errors="replace").splitlines()
    failed = [x.split(" - ")[0].split(" ", 1)[1] for x in lines if x[:6] in ("FAILED", "ERROR ")]
    last = failed[0] if failed else f"exit status {status}: {lines[-1] if lines else ''}"
    if status in (None, -signal.SIGXCPU):
        return {"outcome": "hung", "what": f"more than {asked['seconds']:.0f} seconds"}
    outcome = {0: "passed", 4: "no such test", 5: "no such test"}.get(status, "failed")
    return {"outcome": outcome, "what": "" if outcome == "passed" else last}


def main() -> None:
    sys.path.insert(0, os.getcwd())
    for name in IMPORTED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line), Path(folder, "report"))), flush=True)


if __name__ == "__main__":
    main()
