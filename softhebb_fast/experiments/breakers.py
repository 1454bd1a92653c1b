"""What breaks the symmetry of identical filters: deterministic starts, ties, noise, biases."""

from __future__ import annotations

from typing import Any

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.collapse import NOISE, RADIUS_25
from softhebb_fast.experiments.nets import CIFAR_NET, ZERO_NET_2

DETERMINISTIC = ("patches", "taps", "identity", "walsh", "zero", "spread")
BREAKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "patches": ("Hadamard rows over patches, ±s", {"init": "hadamard_patches"}),
    "taps": ("Hadamard rows, twins on other taps, 0 and ±s", {"init": "hadamard_taps"}),
    "identity": ("identity on all taps, 0 and s", {"init": "identity_taps"}),
    "walsh": ("Walsh rows, 0 and s", {"init": "walsh_binary"}),
    "zero": ("ZerO, norms of 25", {"init": RADIUS_25}),
    "spread": ("ZerO, norms of 25, ties spread", {"init": RADIUS_25, "tie_rule": "spread"}),
    "noise": ("ZerO, norms of 25, 1 % noise", {"init": RADIUS_25 | {"noise": NOISE}}),
    "bias": ("ZerO, norms of 25, random biases", {"init": RADIUS_25 | {"random_bias": 1.0}}),
    "zero-bias": ("zero weights, random biases", {"init": "random_bias"}),
}
NETS: dict[str, tuple[str, dict[str, Any], float | None, float | None]] = {
    # label, run, best published ZerO, what the best deterministic start should reach
    "mnist-1": ("MNIST, 1 layer", {"preset": ZERO_NET_2, "dataset": "mnist"}, 96.07, None),
    "mnist-quarter": (
        "MNIST, quarter",
        {"preset": CIFAR_NET, "dataset": "mnist", "neuron_factor": 0.25},
        None,
        None,
    ),
    "mnist-3": ("MNIST, 3 layers", {"preset": CIFAR_NET, "dataset": "mnist"}, 96.07, 98.5),
    "cifar10-quarter": (
        "CIFAR-10, quarter",
        {"preset": CIFAR_NET, "dataset": "cifar10", "neuron_factor": 0.25},
        None,
        None,
    ),
    "cifar10-3": ("CIFAR-10, 3 layers", {"preset": CIFAR_NET, "dataset": "cifar10"}, 36.97, 70.0),
}
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
    """Starts in which every filter is another, without random numbers (the first four; entries are
zeros and ones, or ±ones, times one constant a layer), ZerO with norms of 25 and what can be put on
top of it: ties that positions share out among twins (deterministic too), Gaussian noise (after
ConstNet, Blumenfeld et al. 2020), random biases in the competition (after Schicho 2023). Sources
and settings are in [initialisation.md](initialisation.md). Dropout before a layer, ConstNet's other
means, cannot part filters that are identical: they see the same input.""",
    tuple(
        Cell(
            _name(net, breaker),
            f"{title}: {label}",
            run | more,
            {} if published is None else {"test_accuracy": published},
            at_least=least if breaker in DETERMINISTIC else None,
            within=None,
        )
        for net, (title, run, published, least) in NETS.items()
        for breaker, (label, more) in BREAKERS.items()
    ),
    {
        "test_accuracy": "test %",
        "initial_distinct": "distinct before",
        "distinct_filters": "distinct after",
        "winner_entropy": "entropy of the wins",
    },
    verdict="target reached",
)
