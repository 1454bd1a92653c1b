"""Schicho 2023: zero weights and random biases, by backpropagation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from softhebb_fast.experiments.cell import Cell, Experiment, Trace
from softhebb_fast.experiments.definitions.schicho_claims import claims
from softhebb_fast.training.backprop_config import BackpropConfig

STARTS: dict[str, tuple[str, Any]] = {
    "pytorch": ("PyTorch's start", None),
    "normal": ("zero, biases N(0, 1)", "zero_bias"),
    "uniform": ("zero, biases U[0, 1)", {"name": "zero_bias", "distribution": "uniform"}),
    "normal-0.01": ("zero, biases N(0, 1) x 0.01", {"name": "zero_bias", "scale": 0.01}),
    "normal-100": ("zero, biases N(0, 1) x 100", {"name": "zero_bias", "scale": 100.0}),
    "zero": ("all zero", "zeros"),
}
MNIST = {"dataset": "mnist", "images": 53_000, "loss": "sum", "reshuffle": False}
CIFAR = {"dataset": "cifar10", "images": 43_000, "loss": "sum", "reshuffle": False}
WAVE = (0, 1, 2, 3, 4, 5, 6, 8, 10, 20, 40, 100, 400)
CNN_STEPS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 60, 100, 200, 400, 1000)
RESNET = {
    "blocks": [3, 4, 6, 3],
    "bottleneck": True,
    "bias": True,
    "activation": "elu",
    "first_norm": False,
}
GROUPS = {"exclude": [str(i) for i in range(3, 19)]}  # the 16 blocks: all but stem and head


class Net(NamedTuple):
    """A network, its title and run, and what was published: after the first and last epoch."""

    title: str
    run: dict[str, Any]
    published: dict[str, tuple[float | None, float | None]]
    gpu: str = ""
    comparable: bool = True  # whether what was published is of this very network


FNN = {"network": "perceptron", "options": {"hidden": [500]}, **MNIST}
CIFAR_FNN = {"network": "perceptron", "options": {"hidden": [512, 256, 128]}, **CIFAR}
CNN_PUBLISHED = {
    "pytorch": (None, 97.7),
    "normal": (None, 97.2),
    "uniform": (None, 96.3),
    "normal-0.01": (None, 97.5),
    "normal-100": (None, 10.0),
}
CIFAR_CNN_PUBLISHED = {"pytorch": (None, 79.7), "normal": (10.0, 70.2), "uniform": (10.0, 68.9)}
NETS = {
    "mnist-fnn": Net(
        "MNIST, one hidden layer",
        {**FNN, "epochs": 10, "symmetry_steps": [*WAVE, 4150]},
        {
            "pytorch": (93.2, 97.6),
            "normal": (91.7, 97.1),
            "uniform": (92.2, 97.2),
            "normal-0.01": (None, 97.1),
            "normal-100": (72.0, 86.0),
        },
    ),
    "mnist-cnn": Net(
        "MNIST, two convolutions",
        {"network": "mnist_cnn", **MNIST, "epochs": 15, "symmetry_steps": WAVE},
        CNN_PUBLISHED,
    ),
    "mnist-cnn-quarter": Net(
        "MNIST, two convolutions of a quarter of the channels",
        {
            **{"network": "mnist_cnn", "options": {"width": 0.25}},
            **{**MNIST, "epochs": 15, "symmetry_steps": WAVE},
        },
        CNN_PUBLISHED,
        comparable=False,
    ),
    "cifar-fnn": Net(
        "CIFAR-10, three hidden layers",
        {**CIFAR_FNN, "epochs": 15, "symmetry_steps": WAVE},
        {"pytorch": (37.0, 48.2), "normal": (22.5, 48.8), "uniform": (27.0, 49.1)},
    ),
    "cifar-cnn": Net(
        "CIFAR-10, six convolutions",
        {"network": "cifar_cnn", **CIFAR, "epochs": 20, "statistics": "batch"},
        CIFAR_CNN_PUBLISHED,
        "about a minute a run on an H100",
    ),
    "cifar-cnn-eighth": Net(
        "CIFAR-10, six convolutions of an eighth of the channels",
        {
            **{"network": "cifar_cnn", "options": {"width": 0.125}, **CIFAR},
            **{"epochs": 20, "statistics": "batch", "symmetry_steps": CNN_STEPS},
        },
        CIFAR_CNN_PUBLISHED,
        comparable=False,
    ),
    "cifar-cnn-eighth-10k": Net(
        "CIFAR-10, six convolutions of an eighth of the channels, 10,000 images",
        {
            **{"network": "cifar_cnn", "options": {"width": 0.125}, **CIFAR, "images": 10_000},
            **{"epochs": 20, "statistics": "batch", "symmetry_steps": CNN_STEPS},
        },
        dict.fromkeys(CIFAR_CNN_PUBLISHED, (None, None)),
    ),
}


def _cell(name: str, start: str, net: Net, **more: Any) -> Cell:
    label, init = STARTS[start]
    first, last = net.published.get(start, (None, None))
    published = {"first_epoch": first, "test_accuracy": last}
    return Cell(
        f"{name}-{start}",
        f"{net.title}: {label}",
        {**net.run, "init": init, **more},
        {column: value for column, value in published.items() if value is not None},
        comparable=net.comparable,
        panel=net.title,
        series=label,
        kind=BackpropConfig,
        gpu=net.gpu,
    )


def _logistic(name: str, title: str, run: dict[str, Any], first: float, last: float) -> Cell:
    net = Net(title, {**run, "options": {"hidden": []}}, {"pytorch": (first, last)})
    cell = _cell(name, "pytorch", net)
    label = "logistic regression"
    return Cell(
        f"{name}-logistic",
        f"{title}: {label}",
        cell.run,
        cell.published,
        panel=title,
        series=label,
        kind=BackpropConfig,
    )


def _resnets() -> Iterator[Cell]:
    """ResNet-50 as the published loop left it, and zeroed; and one of a sixteenth of the width."""
    full = {"network": "resnet", **CIFAR, "epochs": 30, "statistics": "batch"}
    full |= {"augment": "constant"}
    full |= {"normalise": [[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]]}
    short = {"images": 10_000, "epochs": 3, "symmetry_steps": (0, 1, 5, 20, 60, 237)}
    published = {"pytorch": 87.9, "normal": 86.2, "uniform": 86.8}
    for name, run, width, gpu in (
        ("resnet50", full, 64, "5 to 10 minutes a run on an H100"),
        ("resnet50-narrow", full | short, 4, ""),
    ):
        title = "CIFAR-10, ResNet-50" + ", a sixteenth of the width" * (width == 4)
        options = {"options": RESNET | {"width": width}}
        starts = ("pytorch", "normal") if width == 4 else ("pytorch", "normal", "uniform")
        for start in starts:
            label, init = STARTS[start]
            for zeroed in (False, True) if init else (False,):
                options_of_init = {"name": init} if isinstance(init, str) else dict(init or {})
                coded = None if init is None else options_of_init | ({} if zeroed else GROUPS)
                coded_only = width == 64 and not zeroed
                how = ", all layers" if zeroed else ", stem and head alone" if init else ""
                yield Cell(
                    f"{name}{'-zeroed' * zeroed}-{start}",
                    f"{title}: {label}{how}",
                    {**run, **options, "init": coded},
                    {"test_accuracy": published[start]} if coded_only else {},
                    panel=title,
                    series=f"{label}{how}",
                    kind=BackpropConfig,
                    gpu=gpu,
                )


def _cells() -> Iterator[Cell]:
    for name, net in NETS.items():
        if name == "mnist-fnn":
            run = {**FNN, "epochs": 10}
            yield _logistic(name, net.title, run, 90.0, 92.5)
        if name == "cifar-fnn":
            run = {**CIFAR_FNN, "epochs": 15}
            yield _logistic(name, net.title, run, 33.5, 37.2)
        for start in net.published:
            yield _cell(name, start, net)
        last = -(-net.run["images"] // 128) * 5
        chance = {"zero": (None, 11.4 if name.startswith("mnist") else 10.0)}
        steps = {"symmetry_steps": (0, 10, 100, last)}
        yield _cell(name, "zero", net._replace(published=chance), epochs=5, **steps)
    yield from _resnets()


EXPERIMENT = Experiment(
    "schicho",
    "Zero weights, random biases",
    "Schicho 2023, figures 3 to 12, read off the charts to about 0.3 points",
    """Backpropagation with Adam, batches of 128, pixels in [0, 1], and what the published code
does without saying so: 7,000 training images are left out, every epoch has the same order, and the
loss is the sum over the batch. Networks with batch norm are tested with the statistics of the test
batch, as published. **ResNet-50:** the published loop zeroes the stem and the head and
leaves all 52 other convolutions as PyTorch starts them; the cells `resnet50-zeroed-*` zero them
all. Networks too large for two cores are here at full size, for a GPU, and with fewer channels;
what was published stands beside both.""",
    tuple(_cells()),
    {"test_accuracy": "test %", "first_epoch": "after epoch 1 %"},
    figure="learning",
    traces=(
        Trace("largest gradient, CIFAR-10 perceptron", "cifar-fnn-normal", "*", "gradient"),
        Trace(
            "largest gradient, CIFAR-10 CNN, narrow", "cifar-cnn-eighth-10k-normal", "*", "gradient"
        ),
        Trace("deviation of hidden rows, MNIST", "mnist-fnn-*", "1.weight", "deviation"),
    ),
    claims=tuple(claims()),
)
