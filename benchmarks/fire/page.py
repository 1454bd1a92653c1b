"""The tables of docs/reliability.md, written from the committed CSVs.

python -m benchmarks.fire.page              # fail if the page says something else
python -m benchmarks.fire.page --write      # write its tables again
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fire import corruptions, hardships, kills, largest, record
from benchmarks.fire.calls import verdict
from benchmarks.fire.lives import machine
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


def endured() -> str:
    rows = record.read(record.FOLDER / "hardships.csv")
    return table(rows, "hardship", (*hardships.OUTCOMES, *hardships.FAULTS))


def sanitized() -> str:
    rows = record.read(record.FOLDER / "sanitizers.csv")
    head = ("sanitizer", "threads", "layers", "reports", "planted faults reported")
    keys = ("sanitizer", "threads", "times", "reports", "planted faults reported")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(row[key] for key in keys)} |" for row in rows]
    return "\n".join(lines)


def lived() -> str:
    rows = record.read(record.FOLDER / "lives.csv")
    return table(rows, "module", ("steps", "compared", *machine.FAULTS))


def soaked() -> str:
    rows = record.read(record.FOLDER / "soak.csv")
    return listed(rows, ("measure", "minutes", "samples", "early", "late", "change", "flat"))


def stepped() -> str:
    rows = record.read(record.FOLDER / "largest.csv")
    return listed(rows, ("limit", *largest.OUTCOMES, *largest.FAULTS, "peak", "asked for"))


def listed(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> str:
    """The rows as they are."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(row[name] or '0' for name in columns)} |" for row in rows]
    return "\n".join(lines)


def called() -> str:
    rows = record.read(record.FOLDER / "calls.csv")
    return table(rows, "call", (*verdict.OUTCOMES, *verdict.FAULTS))


def mutated() -> str:
    rows, told = (record.read(record.FOLDER / f"mutants{n}.csv") for n in ("", "_survived"))
    columns = ("kind", "mutants", "drawn from", "caught", "too slow", "nothing to notice")
    columns = (*columns, "survived", "caught %")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        outcomes = ("caught", "hung", "alike")
        caught, hung, alike = (sum(r["outcome"] == o for r in own) for o in outcomes)
        same = alike + sum(row["kind"] == kind and row["verdict"] == "same" for row in told)
        share = 100 * (caught + hung) / (len(own) - same)
        cells = (kind, len(own), own[0]["of"], caught, hung, same)
        cells = (*cells, len(own) - caught - hung - same, f"{share:.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "| not caught | becomes | why |", "|---|---|---|"]
    for row in told:
        before, after = (row[key].replace("|", "\\|") for key in ("before", "after"))
        lines.append(f"| {row['file']}: `{before}` | `{after or ' '}` | {row['why']} |")
    return "\n".join(lines)


TABLES = {
    "calls": called,
    "corruptions": corrupted,
    "kills": killed,
    "lives": lived,
    "soak": soaked,
    "largest": stepped,
    "hardships": endured,
    "sanitizers": sanitized,
    "mutants": mutated,
}


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
