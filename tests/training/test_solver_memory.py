"""Classifiers that are solved take no more memory than they say before they begin."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from softhebb_fast.training import RidgeClassifier, SoftmaxClassifier

kind, settings, sizes = json.loads(sys.argv[1])
torch.set_num_threads(1)

def fit(rows, features):
    made = {"ridge": RidgeClassifier, "softmax": SoftmaxClassifier}[kind](10, **settings)
    made.begin(rows, features)
    for first in range(0, rows, 250):
        made.add(torch.randn(250, features), torch.arange(250) % 10)
    made.solve()
    return made.bytes_needed(rows, features)

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

fit(500, 300)
before = peak()
print(json.dumps([fit(*sizes), peak() - before]))
"""
SMALL = {"sums": "float32", "kept": "bfloat16"}
CASES = {
    "primal": ("ridge", {"penalty": 1.0}, (4000, 3500)),
    "primal, small": ("ridge", {"penalty": 1.0, **SMALL}, (5000, 4500)),
    "dual": ("ridge", {"penalty": 1.0}, (3500, 4000)),
    "dual, small": ("ridge", {"penalty": 1.0, **SMALL}, (4500, 5000)),
    "softmax": ("softmax", {"penalty": 1e-3, "iterations": 2}, (4000, 3500)),
}
ROOM = 48 << 20  # libraries' own and what malloc keeps


@pytest.mark.skipif(sys.platform != "linux", reason="waits for a system with /proc")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_more_is_taken_than_is_said(case):
    command = [sys.executable, "-c", SCRIPT, json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, taken = json.loads(done.stdout)
    assert said / 2 < taken < said + ROOM
