"""What breaks the symmetry of identical filters: deterministic starts, ties, noise, biases."""

from __future__ import annotations

from typing import Any, NamedTuple

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.collapse import (
    NOISE,
    RADIUS_25,
    SETS,
    quarter_untrained,
)
from softhebb_fast.experiments.definitions.nets import (
    CIFAR_NET,
    ZERO_NET_2,
    deep_untrained,
    pixels,
)
from softhebb_fast.experiments.definitions.table1 import TITLES

SHAPIRO = {"signs": "rudin_shapiro"}
FEW = (8, 16, 32)  # one entry of so many is a one, by layer
FEW_OF_GREY = (4, 16, 32)  # patches of 25 pixels


def _residues(few: tuple[int, ...]) -> dict[str, Any]:
    starts = ({"name": "residue_binary", "every": every} for every in few)
    return {"init": dict(enumerate(starts))}


BREAKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "patches": ("Hadamard rows over patches, ±s", {"init": "hadamard_patches"}),
    "shapiro": (
        "Hadamard rows over patches, flat, ±s",
        {"init": {"name": "hadamard_patches"} | SHAPIRO},
    ),
    "taps": ("Hadamard rows, twins on other taps, 0 and ±s", {"init": "hadamard_taps"}),
    "identity": ("identity on all taps, 0 and s", {"init": "identity_taps"}),
    "walsh": ("Walsh rows, 0 and s", {"init": "walsh_binary"}),
    "walsh-shapiro": ("Walsh rows, flat, 0 and s", {"init": {"name": "walsh_binary"} | SHAPIRO}),
    "residues": ("power residues, few ones, 0 and s", _residues(FEW)),
    "zero": ("ZerO, norms of 25", {"init": RADIUS_25}),
    "spread": ("ZerO, norms of 25, ties spread", {"init": RADIUS_25, "tie_rule": "spread"}),
    "noise": ("ZerO, norms of 25, 1 % noise", {"init": RADIUS_25 | {"noise": NOISE}}),
    "bias": ("ZerO, norms of 25, random biases", {"init": RADIUS_25 | {"random_bias": 1.0}}),
    "zero-bias": ("zero weights, random biases", {"init": "random_bias"}),
}
ALL, STARTS = tuple(BREAKERS), ("patches", "shapiro", "walsh", "walsh-shapiro")
DEEP = (*STARTS, "residues")
GREY = {"residues": _residues(FEW_OF_GREY)}


class Net(NamedTuple):
    """A network, what is tried with it, and the accuracies to compare with."""

    title: str
    run: dict[str, Any]
    tried: tuple[str, ...] = ALL
    published: float | None = None  # the best ZerO
    target: float | None = None  # what a deterministic start should reach
    changes: dict[str, dict[str, Any]] | None = None  # of what is tried, by its name


NETS = {
    "mnist-1": Net("MNIST, 1 layer", {"preset": ZERO_NET_2, "dataset": "mnist"}, STARTS, 96.07),
    "mnist-quarter": Net(
        "MNIST, quarter",
        {"preset": CIFAR_NET, "dataset": "mnist", "neuron_factor": 0.25},
        changes=GREY,
    ),
    "mnist-3": Net(
        "MNIST, 3 layers", {"preset": CIFAR_NET, "dataset": "mnist"}, DEEP, 96.07, 98.5, GREY
    ),
    "cifar10-quarter": Net(
        "CIFAR-10, quarter", {"preset": CIFAR_NET, "dataset": "cifar10", "neuron_factor": 0.25}
    ),
    "cifar10-3": Net(
        "CIFAR-10, 3 layers", {"preset": CIFAR_NET, "dataset": "cifar10"}, DEEP, 36.97, 70.0
    ),
}
SEARCHED = Cell(
    "cifar10-quarter-break-searched",
    "CIFAR-10, quarter: 0 and s, a start and norms a layer by search",
    {
        "preset": "softkrotov-c24-k5-p2-t1-lr0.08-lp0.5-r3.107:triangle_0.7:max_4_2_1 "
        "softkrotov-c96-k3-p1-t0.65-lr0.005-lp0.5-r7.668:triangle_1.4:max_4_2_1 "
        "softkrotov-c384-k3-p1-t0.25-lr0.01-lp0.5-r2.303:triangle_1:avg_2_2_0 BP:dropout_0.5",
        "dataset": "cifar10",
        "init": {0: {"name": "walsh_binary"} | SHAPIRO, 1: "walsh_binary", 2: "identity_taps"},
    },
    comparable=False,
)
SHARED = {
    "zero": "radius",
    "taps": "radius-taps",
    "spread": "radius-spread",
    "noise": "radius-noise",
}


def _name(net: str, breaker: str) -> str:
    """The quarter networks of `collapse` have names of their own."""
    shared = net.endswith("quarter") and breaker in SHARED
    return f"{net}-{SHARED[breaker] if shared else f'break-{breaker}'}"


EXPERIMENT = Experiment(
    "breakers",
    "Past ZerO: what breaks the symmetry",
    "this project; published beside it is the best ZerO of Le, Xu, Zhuang on that data",
    """\
The first seven are deterministic starts in which every filter differs. Their entries are zeros and
ones, or ±ones, times one constant a layer. The others start as ZerO with norms of 25 and add:

- ties that positions share out among twins (deterministic too);
- Gaussian noise, after ConstNet (Blumenfeld et al. 2020);
- random biases in the competition, after Schicho 2023.

Sources and settings are in [initialisation.md](initialisation.md). Dropout before a layer,
ConstNet's other means, cannot part identical filters: they see the same input. All are tried with a
quarter of the neurons, the starts over whole patches with the published networks too.""",
    (
        *(
            Cell(
                _name(name, breaker),
                f"{net.title}: {BREAKERS[breaker][0]}",
                net.run | BREAKERS[breaker][1] | (net.changes or {}).get(breaker, {}),
                {} if net.published is None else {"test_accuracy": net.published},
                comparable=False,
                target=net.target,
            )
            for name, net in NETS.items()
            for breaker in net.tried
        ),
        SEARCHED,
        *(quarter_untrained(dataset) for dataset in SETS),
        *(deep_untrained(d, f"{TITLES[d]}, 3 layers: random, untrained") for d in SETS),
        *(pixels(d, f"{TITLES[d]}: ") for d in SETS),
    ),
    {
        "test_accuracy": "test %",
        "initial_distinct": "distinct before",
        "distinct_filters": "distinct after",
        "winner_entropy": "entropy of the wins",
    },
    verdict="target reached",
)
