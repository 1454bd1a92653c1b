"""Call every public function and module with arguments of all kinds, and look at what comes.

python -m benchmarks.fire.calls --times 20000 --out benchmarks/results/calls.csv

Each call must give what float64 gives within the bound of its rounding, or be refused with a
promised error that names the argument. Calls are made in processes of their own, so that one that
dies is a fault and not the end. A fault is made small by hypothesis and shown as a program.
"""

from __future__ import annotations

import argparse
import json

import torch

from benchmarks.fire import record
from benchmarks.fire.calls.batches import COLUMNS, FAMILIES, batch, call_all
from benchmarks.fire.calls.verdict import FAULTS, OUTCOMES


def main() -> int:
    parser = record.options(__doc__, 20000, "calls in all", "what was called and what became of it")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--batch", choices=FAMILIES, help=argparse.SUPPRESS)
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch:
        torch.set_num_threads(1)
        if options.batch == "triton":
            from benchmarks.fire.calls import interpreted

            interpreted.prepare()
        now = options.out.with_name("now")
        found = batch(options.batch, options.times, options.seed, options.apart, now)
        options.out.write_text(json.dumps(found))
        return 0
    rows, faults = call_all(options.times, options.seed, options.workers)
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    print("\n\n".join(faults))
    print(record.summed(rows, ("times", *OUTCOMES, *FAULTS)))
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
