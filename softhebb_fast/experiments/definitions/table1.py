"""Table 1 of Le, Xu, Zhuang: four data sets, random and ZerO weights, nothing tuned."""

from __future__ import annotations

from dataclasses import replace

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.nets import (
    as_on_cifar10,
    deep,
    deep_untrained,
    pixels,
    with_halvings,
)

PUBLISHED = {  # random, ZerO
    "cifar10": (80.3, 36.97),
    "fashionmnist": (89.55, 68.99),
    "mnist": (99.4, 71.4),
    "stl10": (72.725, 39.05),
}
TITLES = {
    "cifar10": "CIFAR-10",
    "fashionmnist": "FashionMNIST",
    "mnist": "MNIST",
    "stl10": "STL-10",
    "cifar100": "CIFAR-100",
}


def _cells() -> list[Cell]:
    cells = []
    for dataset, (normal, zero) in PUBLISHED.items():
        for init, value in (("normal", normal), ("zero", zero)):
            name, run = deep(dataset, init)
            label = f"{TITLES[dataset]}, {'random' if init == 'normal' else 'ZerO'}"
            cell = Cell(name, label, run, {"test_accuracy": value})
            if name == "mnist-3-normal":
                cells += [replace(cell, comparable=False), with_halvings(cell), as_on_cifar10(cell)]
            else:
                cells.append(cell)
    for dataset in ("cifar10", "mnist"):
        title = TITLES[dataset]
        cells.append(deep_untrained(dataset, f"{title}, random, untrained"))
        cells.append(pixels(dataset, f"{title}, "))
    return cells


EXPERIMENT = Experiment(
    "table1",
    "Random and ZerO weights on four data sets",
    "Le, Xu, Zhuang, Table 1; the random column for CIFAR-10 and MNIST is quoted from Journé et "
    "al. 2023",
    """\
Three Hebbian layers (`4SoftHebbCnnCIFAR`), nothing tuned for ZerO. ZerO has the scale of the
published ZerO-SoftHebb code (`zerO:scale=fork`), which normalises the Hadamard matrix twice. Its
filters start with norms of 0.01 to 0.03. The first k columns leave only 1, 128 and 512 distinct
filters on MNIST, of 96, 384 and 1536.

The headline of 99.4 % on MNIST has no published architecture. The report's own rerun of this
network gave 98.9 %, with ten epochs of the classifier at one rate; ours is held against that. On
CIFAR-10 the classifier learns for 50 epochs and halves its rate seven times. MNIST is here with
that too, and with CIFAR-10's Hebbian batches of ten (the report takes 32). Both are held against
99.4.

FashionMNIST's published protocol is only a general setting; its Hebbian layers take one epoch here.
STL-10 needs its files, 2.6 GB, in the data folder.""",
    tuple(_cells()),
)
