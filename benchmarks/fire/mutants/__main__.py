"""Mutate the project, one place at a time, and see which test notices.

python -m benchmarks.fire.mutants --kind python --times 150 --out benchmarks/results/mutants.csv

A mutant is caught if a test fails or takes too long. Those that no test catches are told in
benchmarks/results/mutants_survived.csv, by hand: why nothing can notice, or what is missing.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.fire import record
from benchmarks.fire.mutants.kinds import KINDS, Kind, Mutant
from benchmarks.fire.mutants.tree import FAILED, HUNG, PASSED, copied
from softhebb_fast.training.provenance import provenance

OUTCOMES = {FAILED: "caught", HUNG: "hung", PASSED: "survived"}
COLUMNS = (
    *("kind", "file", "line", "change", "before", "after", "outcome", "by"),
    *("of", "seed", "commit", "torch"),
)


def again(kind: Kind, rows: Iterable[dict[str, str]]) -> list[Mutant]:
    """The mutants of such rows, as far as what they change is still there."""
    every = {}
    for mutant in kind.mutants():
        row = mutant.row
        every.setdefault((row["file"], row["before"], row["after"]), []).append(mutant)
    found = []
    for row in rows:
        own = every.get((row["file"], row["before"], row["after"]), [])
        found += sorted(own, key=lambda m: abs(int(m.row["line"]) - int(row["line"])))[:1]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, default="python")
    parser.add_argument("--times", type=int, default=50, help="mutants")
    parser.add_argument("--seed", type=int, default=0, help="rows of others stay in the CSV")
    parser.add_argument("--again", action="store_true", help="those of the CSV that survived")
    parser.add_argument("--folder", type=Path, help="kept: a copy of the project, what tests reach")
    parser.add_argument("--out", type=Path, help="CSV of the mutants and what became of them")
    options = parser.parse_args()
    made_by = {key: provenance()[key] for key in ("commit", "torch")}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        tree = folder / "tree"
        kind = KINDS[options.kind](tree if tree.exists() else copied(tree), folder / "reach")
        mutants, of = kind.drawn(random.Random(options.seed)), len(kind.mutants())
        if options.again:
            known = [r for r in record.read(options.out) if r["kind"] == options.kind]
            kept = [r for r in known if r["outcome"] != "survived"]
            mutants = again(kind, (r for r in known if r["outcome"] == "survived"))
        for mutant in mutants:
            if len(rows) == options.times:
                break
            if (found := kind.outcome(mutant)) is None:
                continue
            row = {"kind": options.kind, **mutant.row, "outcome": OUTCOMES[found[0]]}
            rows.append(row | {"by": found[1], "of": of, "seed": options.seed, **made_by})
            if options.out:
                all_rows = [*kept, *rows] if options.again else rows
                record.keep(options.out, COLUMNS, all_rows, same=("kind", "seed"))
            place = f"{mutant.file}:{mutant.row['line']}"
            print(row["outcome"], place, row["before"], "->", row["after"], found[1], flush=True)
        kind.close()
    counts = Counter(row["outcome"] for row in rows)
    print(", ".join(f"{counts[name]} {name}" for name in OUTCOMES.values()), f"of {of} mutants")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
