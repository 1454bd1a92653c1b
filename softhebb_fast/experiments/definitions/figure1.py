"""Figure 1 of Le, Xu, Zhuang: ZerO on every subset of the three layers."""

from __future__ import annotations

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.nets import (
    CIFAR_NET,
    FORK,
    deep,
    deep_untrained,
    pixels,
)

PUBLISHED = {
    (1,): 98.5,
    (2,): 98.47,
    (3,): 97.11,
    (1, 2): 94.92,
    (2, 3): 95.4,
    (1, 3): 94.19,
}


def _cells() -> list[Cell]:
    name, run = deep("mnist", "normal")
    cells = [Cell(name, "none", run, series="ZerO on", x="none")]
    for layers, accuracy in PUBLISHED.items():
        x = " and ".join(map(str, layers))
        by_layer = {"init": {layer - 1: FORK for layer in layers}}
        cells.append(
            Cell(
                "mnist-3-zero-on-" + "-".join(map(str, layers)),
                f"layer{'s' * (len(layers) > 1)} {x}",
                {"preset": CIFAR_NET, "dataset": "mnist", **by_layer},
                {"test_accuracy": accuracy},
                series="ZerO on",
                x=x,
            )
        )
    name, run = deep("mnist", "zero")
    cells.append(Cell(name, "all", run, {"test_accuracy": 71.6}, series="ZerO on", x="all"))
    place = {"series": "ZerO on", "x": "none, untrained"}
    cells.append(deep_untrained("mnist", "none, and untrained", **place))
    cells.append(pixels("mnist", series="ZerO on", x="pixels"))
    return cells


EXPERIMENT = Experiment(
    "figure1",
    "ZerO on some of the layers",
    "Le, Xu, Zhuang, Figure 1",
    """\
MNIST, `4SoftHebbCnnCIFAR`; the other layers start at random. One random layer is enough to keep
most of the accuracy: it makes different channels out of identical ones. The same network with ZerO
on all layers is published as 71.4, 70 and 71.6 %. With one seed
each, differences below a point mean little.""",
    tuple(_cells()),
    figure="bars",
    axis="layers that start as ZerO",
)
