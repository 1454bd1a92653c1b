"""How long and in what batches each data set is trained: the published protocols."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """Epochs and batch sizes of one data set.

    `unsup_*` are for the Hebbian layers, `probe_*` for the classifier, `test_batch` for
    evaluation. `augment`: the classifier trains on augmented images. `unlabelled`: the Hebbian
    layers train on the data set's unlabelled split.

    Fields: `dataset`, `unsup_epochs`, `unsup_batch`, `probe_epochs`, `probe_batch`, `test_batch`,
    `augment`, `unlabelled`.
    """

    dataset: str
    unsup_epochs: int = 1
    unsup_batch: int = 32
    probe_epochs: int = 50
    probe_batch: int = 64
    test_batch: int = 1000
    augment: bool = False
    unlabelled: bool = False


_TABLE = (
    Protocol("mnist", 1, 32, 10, 32),
    Protocol("fashionmnist", 1, 64, 100, 64),
    Protocol("cifar10", 1, 10, 50, 64),
    Protocol("cifar100", 1, 10, 50, 64),
    Protocol("stl10", 1, 32, 100, 64, test_batch=64, augment=True, unlabelled=True),
    Protocol("imagenette", 1, 10, 200, 32, test_batch=32, augment=True),
    Protocol("imagenet", 1, 10, 200, 32, test_batch=32, augment=True),
)
PROTOCOLS = {row.dataset: row for row in _TABLE}
_IN_NAMES = {"MNIST": "mnist", "CIFA": "cifar10", "STL": "stl10", "ImNet": "imagenet"}


def protocol(dataset: str) -> Protocol:
    """The protocol of the data set called `dataset`; case, '-' and '_' in its name do not matter.

    A data set without a published protocol gets one Hebbian epoch in batches of 32 and 50
    classifier epochs in batches of 64, without augmentation. For FashionMNIST only a general
    setting is published, 100 epochs in batches of 64 for both phases: the classifier keeps it,
    and the Hebbian layers keep its batch and take the one epoch of every other data set.
    Source: Journé et al. 2023 and the published SoftHebb code.
    """
    key = dataset.lower().replace("-", "").replace("_", "")
    return PROTOCOLS.get(key) or Protocol(dataset)


def published_dataset(preset: str) -> str | None:
    """The data set that the preset of that name was published for, None if the name tells none."""
    return next((found for part, found in _IN_NAMES.items() if part in preset), None)
