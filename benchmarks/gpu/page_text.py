"""The sections of the page about the kernels that hold no table of results."""

from __future__ import annotations

HEAD = """\
# The GPU kernels

Written by `python -m benchmarks.gpu.page` from the tables in
[results/h100](../benchmarks/results/h100),
[gpu_measured.csv](../benchmarks/results/gpu_measured.csv),
[counters.csv](../benchmarks/gpu/counters.csv), [traffic.csv](../benchmarks/gpu/traffic.csv),
[tilings.csv](../benchmarks/gpu/tilings.csv), [budget.csv](../benchmarks/gpu/budget.csv) and
[predicted.csv](../benchmarks/gpu/predicted.csv).

**Times that a GPU took are in two sections, "Measured on an H100" and "An earlier sweep". All other
times here are computed**, but for the library's beside what is predicted. What stands in the other
sections:

- Launches, programs and tiles: read from the launch code.
- Sectors, instructions and products: counted while an emulator executed the PTX that Triton emits
  for sm_90a, of some programs of a launch, and scaled to all of them. Sectors are those that L1
  does not hold.
- Bytes through HBM: from the tensors of the launches and a model of the L2, see
  `benchmarks.gpu.traffic`.
- Floors: computed, the counted work at the full rate of one unit of an H100 (tensor cores, HBM,
  instruction issue, load and store units, shared memory). The slowest unit bounds the kernel from
  below. The time at the full rate of the L2 stands beside. It is no bound: programs that run
  concurrently on a multiprocessor share an L1, and only reuse within one of them is counted.
- Library: NVIDIA's own estimate (nvidia-matmul-heuristics) of a library product of the same shape.
- Registers, spills, shared memory, occupancy and instructions: read from the machine code that
  Triton and the vendors' assemblers make.

A floor is what a kernel cannot beat, not what it will reach: latency, tails and launches come on
top.
"""

WAITING_TEXT = """\
## Programs that wait

Where the neurons of a position take several tiles, programs of forward wait for each other to make
y ([design.md](design.md#kernels-of-a-block-on-a-gpu)). That needs them to run concurrently. A GPU
starts the programs of a launch in their order, but no document promises it. These are the limits:

- They wait only where four times the tiles of a position are at most the multiprocessors. Tiles
  `t` from `n` streams are safe while `n (t - 1)` is less than the multiprocessors: four streams and
  more.
- On an H100 16 graphs of 12 tiles each, side by side, did not lock up. Other cards did not run yet.
- Under MPS, in green contexts and in a part of a GPU (MIG) fewer multiprocessors may be there than
  the driver says. Set `SOFTHEBB_FAST_WAIT=0` there: forward then leaves y to a launch of its own.
- On AMD programs never wait, until somebody has seen there that they may.
- A program asks 2^26 times, most of a minute, and then ends the launch with a message. The CUDA
  context is lost then, as after any assertion on the device; nothing hangs.

`softhebb-fast info` says which way is in use, and up to how many tiles.
"""

OVERLAPPING_TEXT = """\
## Launches that overlap

With `SOFTHEBB_FAST_OVERLAP=1` a launch may begin before the one ahead of it has ended (programmatic
dependent launch, compute capability 9.0 and later). Its programs are there when the last of those
ahead still run. They wait for what these store before they touch memory, and then let the programs
of the next launch come. It is off by default: no GPU has tried it yet.

- Every kernel waits first, so that the end of one launch is that of all before it. A test reads the
  PTX of each: no access to memory comes before the wait.
- The programs of a launch come only when all of the launch ahead have begun. So programs of forward
  that wait for each other lose no place to those of a later launch.
- A graph that is captured keeps the overlaps. Launches of other libraries between ours end first.

`make gpu` tests and times steps with and without. What launches take of a step stands in
"Predicted", as *of launches*.
"""

ARCHITECTURES_TEXT = """\
## Architectures

Which tables of configurations a card takes (`FAMILIES` in `softhebb_fast/kernels/tables.py`):

| compute capability | cards | configurations of | |
|---|---|---|---|
| below 8.0 | Turing and older | none | backend `triton` says why; `auto` takes `reference` |
| 8.0 | A100 | sm_80 | compiled, emulated |
| 8.6, 8.9 | RTX 30, RTX 40, L4, L40 | sm_80 | fit its 99 KB of shared memory |
| 9.0 | H100, H200 | sm_90 | compiled, emulated, run on an H100 |
| 10.0, 10.3 | B200, B300 | sm_100 | compiled |
| 12.0, 12.1 | RTX 50, DGX Spark | sm_80; few channels have their own | compiled for sm_120 |
| other, later | | sm_80 | |
| ROCm | MI300 | gfx942 | compiled |
"""

NETWORK_TEXT = """\
## A machine with a GPU and no network

`make gpu` needs torch, Triton, NumPy, Matplotlib, tqdm, pooch, platformdirs, Pillow, pytest and
hypothesis. `pytest-xdist` runs the tests side by side. What the machine lacks can be carried:

```
pip download --only-binary :all: --no-deps -d wheels pooch platformdirs hypothesis pytest-xdist ...
# on the machine, in the copied checkout
python3 -m pip install --no-index --no-deps --target site wheels/*.whl
PYTHONPATH=site SOFTHEBB_FAST_COMMIT=<hash> make gpu PYTHON=python3 OUT=folder DATA=folder
```

`SOFTHEBB_FAST_COMMIT` names the commit of a copy without its history. The extension in C++ is not
needed: the kernels are Triton's. The data are CIFAR-10's Python files in `cifar-10-batches-py`.
`python -m benchmarks.gpu.day --rehearse` runs all parts on a CPU first, on little.
"""
