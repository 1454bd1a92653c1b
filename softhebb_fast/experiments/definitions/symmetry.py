"""The same symmetry from both sides: Hebbian learning and backpropagation."""

from __future__ import annotations

from dataclasses import replace

from softhebb_fast.experiments.cell import Cell, Experiment, Trace
from softhebb_fast.experiments.definitions import constnet, schicho
from softhebb_fast.experiments.definitions.collapse import RADIUS_25
from softhebb_fast.experiments.definitions.nets import CIFAR_NET, FORK

STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 400, 632, 1000, 1875, 3750, 5625)
HEBBIAN = {"preset": CIFAR_NET, "dataset": "mnist", "neuron_factor": 0.25, "symmetry_steps": STEPS}
TITLE = "MNIST, SoftHebb of a quarter of the neurons"
SHARED = (
    *(constnet.EXPERIMENT.cell(f"w1-{name}") for name in ("const", "noise", "dropout", "he")),
    *(schicho.EXPERIMENT.cell(f"mnist-fnn-{name}") for name in ("zero", "normal", "pytorch")),
)

EXPERIMENT = Experiment(
    "symmetry",
    "The same symmetry, Hebbian and by backpropagation",
    "this project",
    """Three works start from equal or empty filters; here the symmetry of their channels is
recorded in the same way while they learn: SoftHebb from ZerO (first layer, which learns in the
first 1,875 steps), ConstNet (last convolution) and Schicho's perceptron (hidden layer). What it
means is in [symmetry.md](symmetry.md).""",
    (
        *(
            Cell(f"mnist-quarter-traced-{name}", f"{TITLE}: {start}", run, series=start)
            for name, start, run in (
                ("fork", "ZerO as released", {**HEBBIAN, "init": FORK}),
                ("radius", "ZerO, norms of 25", {**HEBBIAN, "init": RADIUS_25}),
                (
                    "spread",
                    "ZerO, norms of 25, ties spread",
                    {**HEBBIAN, "init": RADIUS_25, "tie_rule": "spread"},
                ),
                ("normal", "random", HEBBIAN),
            )
        ),
        *(replace(cell, published={}) for cell in SHARED),
    ),
    verdict="",
    traces=tuple(
        Trace(f"{what}: {title}", cells, weight, column, log=column == "deviation")
        for column, what in (
            ("distinct", "distinct filters"),
            ("deviation", "deviation"),
            ("forward_correlation", "mean correlation of filters"),
        )
        for title, cells, weight in (
            ("SoftHebb, layer 1", "mnist-quarter-traced-*", "blocks.0.layer.weight"),
            ("ConstNet", "w1-*", constnet.LAST),
            ("Schicho's perceptron", "mnist-fnn-*", "1.weight"),
        )
    ),
)
