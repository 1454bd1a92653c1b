"""Which rate suits a rule: one layer on a part of CIFAR-10, judged by other training images.

    python -m benchmarks.rules.rates                    # all, into results/search_rules.csv
    python -m benchmarks.rules.rates oja --data data

The layer is that of the leaderboard with one layer, behind the same ridge classifier. A rate at
which the weights do not stay finite is written with its reason. The test images take no part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from softhebb_fast.experiments.definitions.rules import NETS, SOLVED
from softhebb_fast.files import write_csv
from softhebb_fast.presets import Preset, format_network, get_preset, with_rule
from softhebb_fast.search.trial import Budget, GivenUp, Judge, Proxies, run_trial, trial_config
from softhebb_fast.training.finite import NotFinite

OUT = Path("results/search_rules.csv")
COLUMNS = ("rule", "lr", "images", "accuracy", "norm", "distinct", "note")
BUDGET = Budget(images=5_000, validation=5_000)
ANY = Proxies(distinct=1, entropy=0.0, norm_error=float("inf"))
RATES = {
    "krotov": (0.02, 0.08, 0.32),
    "instar": (0.02, 0.1, 0.5),
    "kmeans": (1.0,),
    "oja": (1e-4, 1e-3, 1e-2),
    "sanger": (1e-4, 1e-3, 1e-2),
    "bcm": (1e-5, 1e-4, 1e-3),
    "similarity": (1e-4, 1e-3, 1e-2),
    "nonnegative_similarity": (1e-3, 1e-2, 1e-1),
}


def trials(rule: str, root: str | None = None) -> Iterator[dict[str, Any]]:
    """A row for every rate of ``rule``."""
    net = NETS["1"]
    body, head = with_rule(get_preset(net.preset), rule).layers
    run = {**SOLVED, "features": {"grid": net.grid}, "seed": 0}
    for lr in RATES[rule]:
        network = format_network(Preset("trial", (replace(body, lr=lr), head)))
        judge = Judge(ANY, 1, lambda epoch, accuracy: False)
        row = {"rule": rule, "lr": lr, "images": BUDGET.images}
        try:
            config = trial_config(network, "normal", "cifar10", BUDGET, **run)
            row["accuracy"] = round(run_trial(config, BUDGET, judge, root), 2)
        except (GivenUp, NotFinite) as reason:
            row["note"] = str(reason)
        else:
            norms, distinct = map(judge.figures_of, ("norm_mean", "distinct_filters"))
            row |= {"norm": f"{norms[0]:.4g}", "distinct": distinct[0]}
        yield row


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules.rates", description=__doc__)
    parser.add_argument("rules", nargs="*", default=list(RATES), help=", ".join(RATES))
    parser.add_argument("--data", default=None, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.rules) - set(RATES)):
        parser.error(f"rules must be among {', '.join(RATES)}; got {', '.join(unknown)}")
    rows = []
    for rule in asked.rules:
        for row in trials(rule, asked.data):
            rows.append(row)
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    write_csv(asked.out, COLUMNS, [{name: row.get(name) for name in COLUMNS} for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
