"""Mutate the project, one place at a time, and see which test notices.

python -m benchmarks.fire.mutants --kind python --times 150 --out benchmarks/results/mutants.csv

A mutant is caught if a test fails or does not end. What the CSV tells of a caught mutant stands;
those that survived are tried again, and benchmarks/results/mutants_survived.csv says of each, by
hand, why nothing can notice it or why nothing does.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.fire import record
from benchmarks.fire.mutants.kinds import KINDS
from benchmarks.fire.mutants.tree import ALIKE, FAILED, HUNG, PASSED, copied

OUTCOMES = {FAILED: "caught", HUNG: "hung", PASSED: "survived", ALIKE: "alike"}
PLACE = ("kind", "file", "before", "after", "seed")
COLUMNS = (
    *("kind", "file", "line", "change", "before", "after", "outcome", "by"),
    *("of", "seed", "commit", "torch"),
)


def key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in PLACE)


def mutate(of_kind: str, times: int, seed: int, folder: Path, out: Path | None) -> list[dict]:
    """The rows of the table; written to ``out`` one by one."""
    known = record.read(out) if out else []
    caught = {key(row): row for row in known if row["outcome"] != "survived"}
    tree = folder / "tree"
    kind = KINDS[of_kind](tree if tree.exists() else copied(tree), folder / "reach")
    made_by = record.made_by(seed=seed)
    made_by["of"] = len(kind.mutants())
    rows: list[dict[str, Any]] = []
    for mutant in kind.drawn(random.Random(seed)):
        if len(rows) == times:
            break
        row = {"kind": of_kind, **mutant.row, **made_by}
        if key(row) in caught:
            rows.append(caught[key(row)])
            continue
        if (found := kind.outcome(mutant)) is None:
            continue
        rows.append(row | {"outcome": OUTCOMES[found[0]], "by": found[1]})
        if out:
            record.keep(out, COLUMNS, rows, same=("kind", "seed"))
        shown = (rows[-1][name] for name in ("outcome", "file", "line", "before"))
        print(*shown, "->", row["after"], found[1], flush=True)
    kind.close()
    if out:
        record.keep(out, COLUMNS, rows, same=("kind", "seed"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, default="python")
    parser.add_argument("--times", type=int, default=50, help="mutants")
    parser.add_argument("--seed", type=int, default=0, help="rows of others stay in the CSV")
    parser.add_argument("--folder", type=Path, help="kept: a copy of the project, what tests reach")
    parser.add_argument("--out", type=Path, help="CSV of the mutants and what became of them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        rows = mutate(options.kind, options.times, options.seed, folder, options.out)
    counts = Counter(row["outcome"] for row in rows)
    print(", ".join(f"{counts[name]} {name}" for name in OUTCOMES.values()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
