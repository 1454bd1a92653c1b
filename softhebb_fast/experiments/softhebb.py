"""Depth on CIFAR-10: SoftHebb, hard winners, random filters and backpropagation."""

from __future__ import annotations

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.nets import deep

PUBLISHED = {  # 1, 2 and 3 layers
    "SoftHebb": (71.10, 77.70, 80.31),
    "hard winners": (62.69, 60.08, 60.29),
    "random": (63.99, 68.64, 64.62),
    "backpropagation": (72.42, 82.49, 83.97),
}
PRESETS = {
    "SoftHebb": "SoftHebbCnnCIFAR",
    "hard winners": "HardCnnCIFAR",
    "random": "SoftHebbCnnCIFAR",
    "backpropagation": "CnnCIFAR",
}
POOLED_BY_MAXIMUM = {  # the first layers of 4HardCnnCIFAR and 4SoftHebbCnnCIFAR
    "hard winners": "hard-c96-k5-p1-lr0.05-lp0.75-r25:triangle_1:max_4_2_1",
    "random": "softkrotov-c96-k5-p2-t1-lr0.08-lp0.5-r25:triangle_0.7:max_4_2_1",
}
CLASSIFIER = "BP:flatten:dropout_0.5"
SHORT = {
    "SoftHebb": "soft",
    "hard winners": "hard",
    "random": "random",
    "backpropagation": "bp",
}


def _cell(series: str, depth: int, accuracy: float) -> Cell:
    run = {"preset": f"{depth + 1}{PRESETS[series]}", "dataset": "cifar10"}
    name = f"cifar10-{depth}-{SHORT[series]}"
    if series == "random":
        run["unsup_epochs"] = 0
    if series == "backpropagation":
        run["mode"] = "consecutive"
    if (series, depth) == ("SoftHebb", 3):
        name, run = deep("cifar10", "normal")
    return Cell(
        name,
        f"{series}, {depth} layer{'s' * (depth > 1)}",
        run,
        {"test_accuracy": accuracy},
        at_least=80.0 if (series, depth) == ("SoftHebb", 3) else None,
        within=0.7 if series == "SoftHebb" else 1.0,
        series=series,
        x=str(depth),
    )


def _successive() -> Cell:
    return Cell(
        "cifar10-1-bp-successive",
        "backpropagation, 1 layer, then its classifier",
        {"preset": "2CnnCIFAR", "dataset": "cifar10"},
        {"test_accuracy": PUBLISHED["backpropagation"][0]},
        series="backpropagation, successive",
        x="1",
    )


def _max(series: str, layer: str) -> Cell:
    run = {"preset": f"{layer} {CLASSIFIER}", "dataset": "cifar10"}
    if series == "random":
        run["unsup_epochs"] = 0
    return Cell(
        f"cifar10-1-{SHORT[series]}-max",
        f"{series}, 1 layer, pooled by maximum",
        run,
        {"test_accuracy": PUBLISHED[series][0]},
        series=f"{series}, max",
        x="1",
    )


EXPERIMENT = Experiment(
    "softhebb",
    "Depth, and other ways to learn",
    "Journé et al. 2023, Figure 3, means of four seeds",
    """CIFAR-10. Random filters keep the batch norm of untrained layers at the identity, as
published. One layer of hard winners and one of random filters stand here twice: as the preset of
one layer, pooled by average, and as the first layer of the preset of three, pooled by maximum.
Backpropagation trains all layers end to end; the published commands train them one after the other,
each through what is above it as it started, and one layer stands here in that way too.""",
    (
        *(
            _cell(series, depth, accuracy)
            for series, values in PUBLISHED.items()
            for depth, accuracy in enumerate(values, 1)
        ),
        _successive(),
        *(_max(series, layer) for series, layer in POOLED_BY_MAXIMUM.items()),
    ),
    figure="bars",
    axis="layers below the classifier",
)
