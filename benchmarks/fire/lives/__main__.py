"""Live the lives of layers, blocks and networks, and compare each with a fresh one.

python -m benchmarks.fire.lives --times 500 --out benchmarks/results/lives.csv

Whatever was done to a module, it must compute what a fresh one with its weights, buffers and
options computes: the output, the gradients, what a training step makes of its state. What is frozen
must stay, hooks must be heard once a call, shared weights must stay shared, and what is copied must
part from its copy. A life that does not is shrunk and printed as the steps that it took.
"""

from __future__ import annotations

import traceback

import torch

from benchmarks.fire import record
from benchmarks.fire.lives.machine import COLUMNS, FAULTS, TALLY, live


def main() -> int:
    parser = record.options(__doc__, 500, "lives in all", "what lived, and how it went")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fault = live(options.times, options.seed)
    made_by = record.made_by(seed=options.seed)
    rows = [
        {"module": module, "rule": rule, **count, **made_by}
        for (module, rule), count in sorted(TALLY.items())
    ]
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    if fault is not None:
        traceback.print_exception(fault)
    keys = ("times", "steps", "compared", *FAULTS)
    print(", ".join(f"{sum(count[key] for count in TALLY.values())} {key}" for key in keys))
    return int(fault is not None)


if __name__ == "__main__":
    raise SystemExit(main())
