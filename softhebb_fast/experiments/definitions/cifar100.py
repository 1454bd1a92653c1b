"""CIFAR-100 with the published networks of one, two and three layers."""

from __future__ import annotations

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.nets import pixels

PUBLISHED = {1: 43.0, 2: 52.3, 3: 56.0}

EXPERIMENT = Experiment(
    "cifar100",
    "CIFAR-100, the published networks",
    "Journé et al. 2023, Figure 3, means of four seeds",
    """\
The networks of CIFAR-10 by the same protocol, with a hundred classes. Our images have the
canonical pixels, split and labels. Their order of rows is another, since the canonical one is not
known: the checksums of torchvision's `train` and `test` do not hold for them.""",
    (
        *(
            Cell(
                f"cifar100-{depth}-soft",
                f"{depth} layer{'s' * (depth > 1)}",
                {"preset": f"{depth + 1}SoftHebbCnnCIFAR", "dataset": "cifar100"},
                {"test_accuracy": accuracy},
            )
            for depth, accuracy in PUBLISHED.items()
        ),
        pixels("cifar100"),
    ),
)
