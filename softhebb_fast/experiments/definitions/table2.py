"""Table 2 of Le, Xu, Zhuang: how many weights are not zero, and what MNIST makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.nets import (
    deep,
    deep_untrained,
    pixels,
    with_halvings,
)

ROWS = (  # init, label, test accuracy, non-zeros a layer
    ("normal", "random", 98.9, "2400 331776 5308416"),
    ("zero", "ZerO", 70.0, "96 36864 589824"),
    ("binary", "random zeros and ones", 98.87, "1173 165784 2653880"),
)


def _cells() -> Iterator[Cell]:
    for init, label, accuracy, nonzeros in ROWS:
        name, run = deep("mnist", init)
        published = {"test_accuracy": accuracy, "initial_nonzeros": nonzeros}
        cell = Cell(name, label, run, published)
        yield cell
        if init != "zero":
            yield replace(with_halvings(cell), comparable=False)
    yield deep_untrained("mnist", "random, untrained")
    yield pixels("mnist")


EXPERIMENT = Experiment(
    "table2",
    "Non-zero weights",
    "Le, Xu, Zhuang, Table 2",
    """\
The counts at the start are exact integers. Those of the random zeros and ones are sums of coin
tosses. In the first layer the published count is that of seed 1 (1173). In the second and third it
is that of seed 2 (165784 and 2653880). The draws here give the same counts. Random zeros and ones
do as well as Gaussian weights, so neither sparsity nor two-valued weights are what breaks ZerO.""",
    tuple(_cells()),
    {"test_accuracy": "test %", "initial_nonzeros": "non-zeros a layer"},
)
