"""The tables of docs/reliability.md, written from the committed CSVs.

python -m benchmarks.fire.page              # fail if the page says something else
python -m benchmarks.fire.page --write      # write its tables again
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fire import corruptions, kills, record
from softhebb_fast.files import write_text

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def table(rows: Sequence[dict[str, str]], name: str, outcomes: Sequence[str]) -> str:
    """The sums of ``rows`` by their ``name``, and of all."""
    names = dict.fromkeys(row[name] for row in rows)
    lines = [f"| {name} | times | {' | '.join(outcomes)} |", "|---" * (len(outcomes) + 2) + "|"]
    for each in (*names, "together"):
        own = [row for row in rows if each in (row[name], "together")]
        sums = (sum(int(row[key] or 0) for row in own) for key in ("times", *outcomes))
        lines.append(f"| {each} | {' | '.join(map(str, sums))} |")
    return "\n".join(lines)


def corrupted() -> str:
    rows = record.read(record.FOLDER / "corruptions.csv")
    return table(rows, "file", (*corruptions.OUTCOMES, *corruptions.FAULTS))


def killed() -> str:
    rows = record.read(record.FOLDER / "kills.csv")
    return table(rows, "moment", (*kills.OUTCOMES, *kills.FAULTS))


def mutated() -> str:
    rows, told = (record.read(record.FOLDER / f"mutants{n}.csv") for n in ("", "_survived"))
    columns = ("kind", "mutants", "drawn from", "caught", "too slow", "nothing to notice")
    columns = (*columns, "survived", "caught %")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        caught, hung = (sum(r["outcome"] == o for r in own) for o in ("caught", "hung"))
        same = sum(row["kind"] == kind and row["verdict"] == "same" for row in told)
        share = 100 * (caught + hung) / (len(own) - same)
        cells = (kind, len(own), own[0]["of"], caught, hung, same)
        cells = (*cells, len(own) - caught - hung - same, f"{share:.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "| not caught | becomes | why |", "|---|---|---|"]
    for row in told:
        before, after = (row[key].replace("|", "\\|") for key in ("before", "after"))
        lines.append(f"| {row['file']}: `{before}` | `{after or ' '}` | {row['why']} |")
    return "\n".join(lines)


TABLES = {"corruptions": corrupted, "kills": killed, "mutants": mutated}


def committed() -> str:
    """The page as the committed CSVs want it."""
    text = PAGE.read_text(encoding="utf-8")
    for name, made in TABLES.items():
        begin = f"<!-- {name}: python -m benchmarks.fire.page --write -->\n"
        head, first, rest = text.partition(begin)
        _, second, tail = rest.partition(end := f"<!-- end {name} -->")
        if not first or not second:
            raise ValueError(f"there is no block {name!r} in {PAGE}")
        text = f"{head}{begin}{made()}\n{end}{tail}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the tables again")
    write, text = parser.parse_args().write, committed()
    stale = text != PAGE.read_text(encoding="utf-8")
    if write and stale:
        write_text(PAGE, text)
    return int(stale and not write)


if __name__ == "__main__":
    raise SystemExit(main())
