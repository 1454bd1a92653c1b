"""Table 2 of Le, Xu, Zhuang: how many weights are not zero, and what MNIST makes of it."""

from __future__ import annotations

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.nets import deep

ROWS = (  # init, label, test accuracy, non-zeros a layer, at least
    ("normal", "random", 98.9, "2400 331776 5308416", 98.9),
    ("zero", "ZerO", 70.0, "96 36864 589824", None),
    ("binary", "random zeros and ones", 98.87, "1173 165784 2653880", 98.8),
)

EXPERIMENT = Experiment(
    "table2",
    "Non-zero weights",
    "Le, Xu, Zhuang, Table 2",
    """The counts at the start are exact integers. Those of the random zeros and ones are sums of
coin tosses: the published ones are seed 1's in the first layer (1173) and seed 2's in the second
and third (165784 and 2653880), which the draws here give as well. That random zeros and ones do
as well as Gaussian weights shows that sparsity or two-valued weights are not what breaks ZerO.""",
    tuple(
        Cell(
            *_named,
            {"test_accuracy": accuracy, "initial_nonzeros": nonzeros},
            at_least=least,
        )
        for init, label, accuracy, nonzeros, least in ROWS
        for _named in [(deep("mnist", init)[0], label, deep("mnist", init)[1])]
    ),
    {"test_accuracy": "test %", "initial_nonzeros": "non-zeros a layer"},
)
