"""Depth on CIFAR-10: SoftHebb, hard winners, random filters and backpropagation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.nets import deep, pixels, pooled_by_maximum
from softhebb_fast.presets import Layer, format_network, get_preset

Change = Callable[[Layer], Layer]

PUBLISHED = {  # 1, 2 and 3 layers
    "SoftHebb": (71.10, 77.70, 80.31),
    "hard winners": (62.69, 60.08, 60.29),
    "random": (63.99, 68.64, 64.62),
    "backpropagation": (72.42, 82.49, 83.97),
}
DEVIATIONS = (0.063, 0.383, 0.148)  # of SoftHebb, over four seeds
PRESETS = {
    "SoftHebb": "SoftHebbCnnCIFAR",
    "hard winners": "HardCnnCIFAR",
    "random": "SoftHebbCnnCIFAR",
    "backpropagation": "CnnCIFAR",
}
SHORT = {
    "SoftHebb": "soft",
    "hard winners": "hard",
    "random": "random",
    "backpropagation": "bp",
}


def _cell(series: str, depth: int) -> Cell:
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
        {"test_accuracy": PUBLISHED[series][depth - 1]},
        published_error=DEVIATIONS[depth - 1] / 2 if series == "SoftHebb" else 0.0,
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


def _changed(series: str, depth: int, name: str, label: str, change: Change) -> Cell:
    """The first layers of the preset of three, each with a change."""
    three = get_preset(f"4{PRESETS[series]}")
    layers = [change(layer) for layer in three.layers[:depth]]
    network = replace(three, layers=(*layers, three.layers[-1]))
    cell = _cell(series, depth)
    return replace(
        cell,
        name=f"{cell.name}-{name}",
        label=f"{cell.label}, {label}",
        run={**cell.run, "preset": format_network(network)},
        series=f"{series}, {label}",
    )


def _pooled_by_maximum(series: str, depth: int) -> Cell:
    return _changed(series, depth, "max", "pooled by maximum", pooled_by_maximum)


def _norms_of_two(series: str, depth: int) -> Cell:
    return _changed(series, depth, "r2", "norms of 2", lambda layer: replace(layer, radius=2.0))


EXPERIMENT = Experiment(
    "softhebb",
    "Depth, and other ways to learn",
    "Journé et al. 2023, Figure 3, means of four seeds; deviations of SoftHebb from Figure 1",
    """\
CIFAR-10. Random filters keep the batch norm of untrained layers at the identity, as published.

Each preset pools one of its layers by average. Some networks therefore stand here twice: as their
preset, and as the first layers of the preset of three with all pools by maximum. These are hard
winners and backpropagation with one layer, and random filters of any depth.

Hard winners start at norms of 25, and also at 2 as in the presets for ImageNet. Backpropagation
trains all layers end to end. The published commands train layer by layer, each through the
untrained layers above it; one layer is here in that way too.""",
    (
        *(_cell(series, depth) for series in PUBLISHED for depth in (1, 2, 3)),
        _successive(),
        _pooled_by_maximum("hard winners", 1),
        _pooled_by_maximum("random", 1),
        _pooled_by_maximum("random", 2),
        _pooled_by_maximum("random", 3),
        _pooled_by_maximum("backpropagation", 1),
        *(_norms_of_two("hard winners", depth) for depth in (1, 2, 3)),
        pixels("cifar10", series="pixels", x="0"),
    ),
    figure="bars",
    axis="layers below the classifier",
)
