"""One trial: a short run on a part of the training images, given up as soon as it looks bad."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from softhebb_fast.data import ImageSet, load
from softhebb_fast.data.catalog import canonical_name
from softhebb_fast.models import build
from softhebb_fast.presets import parse_network
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.trainer import Trainer

SPLIT_SEED = 0


class GivenUp(Exception):
    """A trial that is not worth going on with, and why."""


@dataclass(frozen=True)
class Proxies:
    """Figures of a layer at which a trial is given up.

    Attributes:
        distinct: at least so many different filters after the layer's training.
        entropy: at least so many bits in the wins after the layer's training.
        norm_error: at most so large a |mean norm - 1| at any time.
    """

    distinct: int = 2
    entropy: float = 0.05
    norm_error: float = 100.0

    def objection(self, row: MetricsRow, learned: bool) -> str | None:
        """Why a layer with these figures is not worth going on with."""
        where = f"layer {row['layer']}"
        if not abs(row["norm_mean"] - 1) <= self.norm_error:
            return f"{where} has norms of {row['norm_mean']:.3g}"
        if learned and row["distinct_filters"] < self.distinct:
            return f"{where} has {row['distinct_filters']} distinct filters"
        if learned and row["winner_entropy"] < self.entropy:
            return f"{where} has {row['winner_entropy']:.2f} bits in its wins"
        return None


@dataclass(frozen=True)
class Budget:
    """What a trial may cost: images to learn from, images to be judged by, classifier epochs."""

    images: int = 10_000
    validation: int = 5_000
    probe_epochs: int = 3


class HeldOut(Trainer):
    """A run on ``budget.images`` training images, tested on other training images.

    The test set takes no part. Raises ValueError if the data set has too few images.
    """

    train_set: ImageSet
    unsup_set: ImageSet
    test_set: ImageSet

    def __init__(self, budget: Budget, *arguments: Any, **options: Any) -> None:
        self.budget = budget
        super().__init__(*arguments, **options)

    def _load_data(self, device: torch.device) -> None:
        options = {"root": self.root, "device": device, **(self.config.reading or {})}
        whole = load(self.config.dataset, "train", **options)
        wanted = self.budget.images + self.budget.validation
        if wanted > len(whole):
            raise ValueError(
                f"images and validation must be at most {len(whole)} together, the training images "
                f"of {self.config.dataset}; got {wanted}"
            )
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(SPLIT_SEED))
        self.train_set = self.unsup_set = whole.subset(order[: self.budget.images])
        self.test_set = whole.subset(order[len(whole) - self.budget.validation :])


class Judge(Reporter):
    """Hears a run's figures, keeps the layers' last ones, and gives up what looks bad.

    ``heard(epoch, accuracy)`` is told each accuracy and says whether to give up.
    """

    proxies: Proxies
    epochs: int
    heard: Callable[[int, float], bool]
    accuracy: float

    def __init__(self, proxies: Proxies, epochs: int, heard: Callable[[int, float], bool]) -> None:
        self.proxies, self.epochs, self.heard = proxies, epochs, heard
        self.layers: dict[int, MetricsRow] = {}
        self.accuracy = 0.0

    def record(self, row: MetricsRow) -> None:
        if row["epoch"] == 0:  # nothing has learned yet
            return
        if "layer" in row:
            self.layers[row["layer"]] = row
            objection = self.proxies.objection(row, row["epoch"] == self.epochs)
            if objection is not None:
                raise GivenUp(objection)
        elif "test_accuracy" in row:
            self.accuracy = row["test_accuracy"]
            if self.heard(row["epoch"], self.accuracy):
                raise GivenUp(f"{self.accuracy:.2f} % after epoch {row['epoch']} is below others")

    def figures_of(self, name: str) -> list[float]:
        """A figure of all layers that have learned, in their order."""
        return [self.layers[layer][name] for layer in sorted(self.layers)]


def run_trial(
    config: RunConfig,
    budget: Budget,
    judge: Judge,
    root: str | None = None,
    run: Callable[[Trainer], Any] = Trainer.run,
) -> float:
    """The accuracy in per cent on held-out training images.

    Raises GivenUp with the reason: what ``judge`` objects to, or a network that does not fit the
    images or its init.
    """
    shape = load(config.dataset, "test", root=root, limit=1)
    try:
        with torch.device("meta"):
            build(
                parse_network(config.preset), shape.image_shape, shape.num_classes, init=config.init
            )
    except ValueError as error:
        raise GivenUp(f"impossible: {error}") from error
    with tempfile.TemporaryDirectory(prefix="softhebb-search-") as folder:
        trainer = HeldOut(
            budget, config, folder, root=root, reporter=judge, checkpoint_seconds=float("inf")
        )
        run(trainer)
    return judge.accuracy


def trial_config(network: str, init: Any, dataset: str, budget: Budget, **more: Any) -> RunConfig:
    """The run of a trial: the published protocol with fewer epochs of the classifier.

    A classifier among ``more`` that is solved takes one.
    """
    if more.get("classifier", "published") == "published":
        more = {"probe_epochs": budget.probe_epochs, **more}
    return RunConfig(network, canonical_name(dataset), init, **more).resolved()
