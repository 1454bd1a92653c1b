"""Tables 3 to 5 of Le, Xu, Zhuang: networks tuned for ZerO on MNIST."""

from __future__ import annotations

from dataclasses import replace

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.nets import (
    FORK,
    ZERO_NET_2,
    ZERO_NET_4,
    pixels,
    pooled_by_maximum,
    tuned,
    untrained,
)
from softhebb_fast.presets import format_network, get_preset

TWO = {
    "test_accuracy": 96.07,
    "logged_train_accuracy": 91.382,
    "logged_train_loss": 0.0110281,
    "logged_test_loss": 0.000173179,
}
FOUR = {
    "test_accuracy": 94.45,
    "logged_train_accuracy": 92.491,
    "logged_train_loss": 0.00840335,
    "logged_test_loss": 0.000201055,
}


def _max_pooled() -> str:
    first, *rest = (preset := get_preset(ZERO_NET_2)).layers
    return format_network(replace(preset, layers=(pooled_by_maximum(first), *rest)))


EXPERIMENT = Experiment(
    "table5",
    "Networks tuned for ZerO",
    "Le, Xu, Zhuang, Table 5, with the networks of Tables 3 and 4",
    """\
MNIST; `zerO:scale=fork`. Table 3 says max pooling for the 2-layer network, the released preset
pools by average: both are here. The published losses are sums of batch means over the number of
images: the true loss over the batch size (32 in training, 1000 in the test). Training figures
average all epochs since the last line of the log, here the last five, with dropout on. That is why
training accuracy is below test accuracy. The columns below are in these units.""",
    (
        Cell("mnist-2-tuned-zero", "2 layers, average pooling", tuned(ZERO_NET_2), TWO),
        Cell(
            "mnist-2-tuned-zero-max",
            "2 layers, max pooling",
            {"preset": _max_pooled(), "dataset": "mnist", "init": FORK},
            TWO,
        ),
        Cell("mnist-4-tuned-zero", "4 layers", tuned(ZERO_NET_4), FOUR),
        untrained("mnist-2-tuned-untrained", "2 layers, ZerO untrained", tuned(ZERO_NET_2)),
        untrained("mnist-4-tuned-untrained", "4 layers, ZerO untrained", tuned(ZERO_NET_4)),
        pixels("mnist"),
    ),
    {
        "test_accuracy": "test %",
        "logged_train_accuracy": "train %",
        "logged_train_loss": "train loss",
        "logged_test_loss": "test loss",
    },
)
