"""Why ZerO collapses: its causes taken away one at a time, and watched while layers learn."""

from __future__ import annotations

from typing import Any

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.nets import CIFAR_NET, FORK, pixels, untrained
from softhebb_fast.experiments.definitions.table1 import TITLES

SMALL = 0.02  # about the norm of the released code's filters
NOISE = 0.01
RADIUS_25 = {"name": "zerO", "radius": 25.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fork": ("as released", {"init": FORK}),
    "orthonormal": ("scale: orthonormal", {"init": {"name": "zerO", "scale": "orthonormal"}}),
    "algorithm2": ("scale: Algorithm 2", {"init": {"name": "zerO", "scale": "algorithm2"}}),
    "radius": ("scale: norms of 25", {"init": RADIUS_25}),
    "noise": ("duplicates: 1 % noise", {"init": FORK | {"noise": NOISE}}),
    "taps": (
        "duplicates: twins on other taps",
        {"init": {"name": "hadamard_taps", "radius": SMALL}},
    ),
    "spread": ("ties: spread", {"init": FORK, "tie_rule": "spread"}),
    "radius-noise": ("scale and duplicates: noise", {"init": RADIUS_25 | {"noise": NOISE}}),
    "radius-taps": ("scale and duplicates: taps", {"init": "hadamard_taps"}),
    "radius-spread": ("scale and ties", {"init": RADIUS_25, "tie_rule": "spread"}),
    "normal-small": ("random, norms of 0.02", {"init": {"name": "normal", "radius": SMALL}}),
    "normal": ("random, norms of 25", {}),
}

SETS = ("mnist", "cifar10")
QUARTER = {"preset": CIFAR_NET, "neuron_factor": 0.25}


def quarter_untrained(dataset: str) -> Cell:
    """The network with a quarter of its neurons and random filters."""
    label, run = "random, norms of 25, untrained", QUARTER | {"dataset": dataset}
    place = {"panel": TITLES[dataset], "series": label}
    return untrained(f"{dataset}-quarter-untrained", f"{TITLES[dataset]}, {label}", run, **place)


EXPERIMENT = Experiment(
    "collapse",
    "Why ZerO collapses",
    "this project",
    """\
The three-layer network with a quarter of its neurons (`4SoftHebbCnnCIFAR`, `--neuron-factor 0.25`:
24, 96 and 384), so that a run takes minutes. ZerO as released differs from random weights in three
ways that may make it fail. Each is taken away alone and with another:

- **Scale.** Filters start with norms of 0.03 to 0.08 here; SoftHebb starts at 25.
- **Duplicates.** Only min(K, 2^ceil(log2 C)) of K filters over C channels differ. On MNIST all
  filters of the first layer are equal.
- **Ties.** Identical filters part only because the first of the equal ones wins.

Random weights with norms of 0.02 have the scale without the duplicates. Figures of layers are in
the order of the layers. The entropy of the wins is at most log2 of the neurons: 4.6, 6.6 and 8.6
bits.""",
    (
        *(
            Cell(
                f"{dataset}-quarter-{name}",
                f"{TITLES[dataset]}, {label}",
                QUARTER | {"dataset": dataset} | more,
                panel=TITLES[dataset],
                series=label,
            )
            for dataset in SETS
            for name, (label, more) in CASES.items()
        ),
        *(quarter_untrained(dataset) for dataset in SETS),
        *(pixels(d, f"{TITLES[d]}, ", panel=TITLES[d], series="pixels") for d in SETS),
    ),
    {
        "test_accuracy": "test %",
        "initial_distinct": "distinct before",
        "distinct_filters": "distinct after",
        "norm_mean": "mean norm",
        "winner_entropy": "entropy of the wins",
    },
    figure="curves",
    verdict="",
)
