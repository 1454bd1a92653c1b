from __future__ import annotations

import subprocess
import sys

import pytest

from softhebb_fast.cli.memory import keep_freed_memory

ROUNDS, MIB = 25, (24, 24, 24, 6)
FAULTS = f"""
import resource, torch
from softhebb_fast.cli.memory import keep_freed_memory
assert keep_freed_memory({{}})
for i in range(5 + {ROUNDS}):
    if i == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [torch.ones(size << 18) for size in {MIB}]
    del activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, resource.getpagesize())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="waits for glibc, whose malloc has thresholds")
def test_freed_memory_is_there_for_the_next_step():
    command = [sys.executable, "-c", FAULTS]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    faults, page = map(int, output.split())
    assert faults < 0.1 * ROUNDS * (sum(MIB) << 20) / page


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_a_threshold_that_the_user_has_set_stays(name):
    assert not keep_freed_memory({name: "131072"})
