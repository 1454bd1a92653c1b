"""Figure 2 of Le, Xu, Zhuang: wider layers and more neurons, on MNIST."""

from __future__ import annotations

from typing import Any

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.nets import (
    ZERO_NET_2,
    ZERO_NET_4,
    deep,
    deep_untrained,
    pixels,
    tuned,
)

SERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "SoftHebb": deep("mnist", "normal"),
    "ZerO, not tuned": deep("mnist", "zero"),
    "ZerO, tuned, 2 layers": ("mnist-2-tuned-zero", tuned(ZERO_NET_2)),
    "ZerO, tuned, 4 layers": ("mnist-4-tuned-zero", tuned(ZERO_NET_4)),
}
WIDTHS = {  # at the ratios 1, 2 and 4, which is the networks' own
    "SoftHebb": (97.0, 99.0, 99.0),
    "ZerO, not tuned": (78.8, 61.6, 72.8),
    "ZerO, tuned, 4 layers": (93.0, 92.3, 94.5),
}
NEURONS = {  # at half, once and twice the neurons
    "SoftHebb": (98.9, 99.0, 98.6),
    "ZerO, not tuned": (65.4, 72.0, 73.0),
    "ZerO, tuned, 2 layers": (93.2, 96.1, 93.1),
    "ZerO, tuned, 4 layers": (93.0, 94.5, 88.7),
}


def _cells(panel: str, published: dict, factors: dict[str, dict[str, float]]) -> list[Cell]:
    return [
        Cell(
            "-".join((name, *(f"{key[0]}{value:g}" for key, value in factor.items()))),
            f"{series}, {panel} {x}",
            run | factor,
            {"test_accuracy": value},
            panel=panel,
            series=series,
            x=x,
        )
        for series, values in published.items()
        for (x, factor), value in zip(factors.items(), values, strict=True)
        for name, run in [SERIES[series]]
    ]


EXPERIMENT = Experiment(
    "figure2",
    "Wider layers, more neurons",
    "Le, Xu, Zhuang, Figure 2, read off the chart to about half a point",
    """\
MNIST. The width ratio multiplies the neurons from layer to layer and is 4 in the published
networks; the number of neurons scales all layers alike.""",
    (
        *_cells(
            "width ratio", WIDTHS, {"1": {"width_factor": 1.0}, "2": {"width_factor": 2.0}, "4": {}}
        ),
        *_cells(
            "neurons",
            NEURONS,
            {"0.5x": {"neuron_factor": 0.5}, "1x": {}, "2x": {"neuron_factor": 2.0}},
        ),
        deep_untrained(
            *("mnist", "random, untrained"), panel="neurons", series="random, untrained", x="1x"
        ),
        pixels("mnist", panel="neurons", series="pixels", x="1x"),
    ),
    figure="lines",
)
