"""The stage of a run in which the classifier is solved, and how its images are walked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from softhebb_fast.data import batches
from softhebb_fast.models import SoftHebbNet, features
from softhebb_fast.training.classifier import evaluate
from softhebb_fast.training.features import images_at_once
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.ridge import RidgeClassifier, RidgeSettings
from softhebb_fast.training.stages import BatchSource, Stage


class RidgeStage(Stage):
    """The head becomes the ridge classifier of what it sees of ``inputs``.

    Nothing of the sums is kept in a checkpoint: a stage that goes on makes them again, in the same
    order and so with the same bits.

    Args:
        inputs: images and what they pass; ``copies`` of as many images, one set behind the other.
        test: the images of tests.
        passes: how often the images are taken, differently augmented each time.
        chunk: images at a time.
        seed: of the augmentation and of what is held out.
    """

    phase = "ridge"
    title = "classifier"

    def __init__(
        self,
        net: SoftHebbNet,
        inputs: BatchSource,
        test: BatchSource,
        settings: RidgeSettings,
        passes: int,
        chunk: int,
        test_batch: int,
        seed: int,
        copies: int = 1,
    ) -> None:
        super().__init__(net, inputs, passes, chunk, [])
        self.test, self.test_batch, self.seed = test, test_batch, seed
        net.eval()
        self.linear = net.head[-1]
        self.classifier = RidgeClassifier(self.linear.out_features, **settings.to_dict())
        images = len(inputs.source)
        self.held = self.classifier.drawn(images // copies, seed)
        if self.held is not None:
            self.held = self.held.repeat(copies)
        self._begin()  # what does not fit is said before anything is computed
        self.most: int | None = None

    def up_to(self, number: int) -> Iterator[int]:
        """Take in the ``number``-th chunk of the stage, and those before it where they are missing.

        Yields how many images it has, and 0 after each of the others.
        """
        if number < self.summed:
            self._begin()
        while self.summed <= number:
            count = self._take(*divmod(self.summed, self.per_epoch))
            self.summed += 1
            if self.summed <= number:
                yield 0
        if self.summed == self.epochs * self.per_epoch:
            self._solve()
        yield count

    def _begin(self) -> None:
        source, self.summed = self.inputs.source, 0
        samples = self.epochs * len(source)
        self.classifier.begin(samples, self.linear.in_features, source.device)

    @torch.no_grad()
    def _take(self, epoch: int, batch: int) -> int:
        inputs, size = self.inputs, self.batch_size
        seeds = (self.seed, epoch) if inputs.augment else None
        options = {"start_batch": batch, "augment": inputs.augment, "augment_seed": seeds}
        x, labels = next(batches(inputs.source, size, **options))
        if self.most is None:
            self.most = images_at_once(inputs.below, x, size)
        found = torch.cat([features(inputs.below, part).flatten(1) for part in x.split(self.most)])
        held = None if self.held is None else self.held[batch * size : batch * size + len(x)]
        try:
            self.classifier.add(found, labels, held)
        except ValueError as error:
            first = batch * size
            raise ValueError(
                f"what the classifier learns from, the training images {first} to "
                f"{first + len(x) - 1} through the layers below: {error}"
            ) from error
        return len(x)

    @torch.no_grad()
    def _solve(self) -> None:
        self.classifier.solve()
        self.linear.weight.copy_(self.classifier.weight)
        self.linear.bias.copy_(self.classifier.bias)

    def why_at_an_end(self) -> str | None:
        """What to say of a penalty that was chosen at an end of those tried, if it was."""
        tried = [trial["penalty"] for trial in self.classifier.trials]
        if not tried or self.classifier.penalty not in (tried[0], tried[-1]):
            return None
        chosen = self.classifier.penalty
        which = "least" if chosen == tried[0] else "largest"
        return (
            f"the penalty chosen, {chosen:.3g}, is the {which} of the {len(tried)} tried: others "
            "may be better (factors of the ridge classifier)"
        )

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        if epoch < self.epochs:
            return []
        trials = [{"phase": "penalty", "epoch": epoch, **t} for t in self.classifier.trials]
        error = "squared_error"
        found, accuracy = evaluate(self.net, self.test.source, self.test_batch, error)
        row = {"phase": self.phase, "epoch": epoch, "penalty": self.classifier.penalty}
        return [*trials, row | {f"test_{error}": found, "test_accuracy": accuracy}]


class RidgeSteps:
    """Walks the images of a ``RidgeStage`` in the order of the set."""

    def __init__(self, stage: RidgeStage, say: Callable[[str], None]) -> None:
        self.stage, self.say = stage, say

    def walk(
        self, order: Tensor, start: int = 0, first: int = 0, seeds: tuple[int, int] | None = None
    ) -> Iterator[int]:
        """As ``EagerSteps.walk``; sums do not depend on the order."""
        for number in range(first + start, first + self.stage.per_epoch):
            yield from self.stage.up_to(number)
        if text := self.stage.why_at_an_end():
            self.say(text)
