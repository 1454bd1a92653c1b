"""The stage of a run in which the classifier is solved, and how its images are walked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from softhebb_fast.data import batches
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.training.classifier import evaluate
from softhebb_fast.training.features import flat_features, images_at_once
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.solved import SolvedClassifier, SolverSettings
from softhebb_fast.training.stage import BatchSource, Stage

LONG = 1 << 30  # bytes of what is solved: from there on it takes a while


class SolvedStage(Stage):
    """The head becomes the classifier of what it sees of ``inputs``, as ``settings`` say.

    Nothing of what is taken in is kept in a checkpoint: a stage that goes on takes it in again, in
    the same order and so with the same bits. Several processes take the chunks in turn and add
    their sums up before each of them solves the equations.

    Args:
        inputs: images and what they pass; ``copies`` of as many images, one set behind the other.
        test: the images of tests.
        passes: how often the images are taken, differently augmented each time.
        chunk: images at a time.
        seed: of the augmentation and of what is held out.
    """

    title = "classifier"
    phase: str
    slow = True
    test: BatchSource
    test_batch: int
    seed: int
    linear: nn.Linear
    classifier: SolvedClassifier
    summed: int

    def __init__(
        self,
        net: SoftHebbNet,
        inputs: BatchSource,
        test: BatchSource,
        settings: SolverSettings,
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
        self.classifier = settings.classifier(self.linear.out_features)
        self.phase = self.classifier.name
        images = len(inputs.source)
        self.held = self.classifier.drawn(images // copies, seed)
        if self.held is not None:
            self.held = self.held.repeat(copies)
        self._begin()  # what does not fit is said before anything is computed
        self.most: int | None = None

    def up_to(self, number: int) -> Iterator[int]:
        """Take in the chunks of the stage up to the ``number``-th that are missing, round by round
        of the processes; yields 0 between the rounds."""
        if number < self.summed:
            self._begin()
        last = self.epochs * self.per_epoch
        while self.summed <= number:
            chunks = range(self.summed, min(self.summed + self.ranks.size, number + 1))
            self._take(chunks)
            self.summed = chunks.stop
            if self.summed <= number:
                yield 0
        if self.summed == last:
            self._solve()

    def _begin(self) -> None:
        source, self.summed = self.inputs.source, 0
        samples = self.epochs * len(source)
        self.classifier.begin(samples, self.linear.in_features, source.device)

    def images(self, number: int) -> int:
        """How many images the ``number``-th chunk of the stage has."""
        start = number % self.per_epoch * self.batch_size
        return min(self.batch_size, self.samples - start)

    @torch.no_grad()
    def _take(self, chunks: range) -> None:
        """Take in this process's one of a round of ``chunks``; each waits for the first of all."""
        ranks = self.ranks
        own = chunks[ranks.rank] if ranks.rank < len(chunks) else None
        found = None if own is None else self._found(own)
        if ranks.several and self.classifier.shift is None:
            like = {"dtype": torch.float64, "device": self.inputs.source.device}
            shift = torch.empty(self.linear.in_features, **like)
            if ranks.first:
                shift.copy_(found[0].double().mean(0))
            ranks.spread(shift)
            self.classifier.shift = shift
        for number in chunks:
            if number == own:
                self._add(number, *found)
            else:
                self.classifier.skip(self.images(number))

    def _found(self, number: int) -> tuple[Tensor, Tensor]:
        """What the classifier sees of a chunk of the stage, and its labels."""
        inputs, size = self.inputs, self.batch_size
        epoch, batch = divmod(number, self.per_epoch)
        seeds = (self.seed, epoch) if inputs.augment else None
        options = {"start_batch": batch, "augment": inputs.augment, "augment_seed": seeds}
        x, labels = next(batches(inputs.source, size, **options))
        if self.most is None:
            self.most = images_at_once(inputs.below, x, size)
        return flat_features(inputs.below, x, self.most), labels

    def _add(self, number: int, found: Tensor, labels: Tensor) -> None:
        first = number % self.per_epoch * self.batch_size
        held = None if self.held is None else self.held[first : first + len(found)]
        try:
            self.classifier.add(found, labels, held)
        except ValueError as error:
            raise ValueError(
                f"what the classifier learns from, the training images {first} to "
                f"{first + len(found) - 1} through the layers below: {error}"
            ) from error

    @torch.no_grad()
    def _solve(self) -> None:
        if self.ranks.several:
            self.classifier.add_up(self.ranks)
        self.classifier.solve()
        self.linear.weight.copy_(self.classifier.weight)
        self.linear.bias.copy_(self.classifier.bias)

    def what_takes_long(self) -> str | None:
        """What to say before the images are all taken in, where solving then takes a while."""
        features = self.linear.in_features
        if self.classifier.bytes_needed(self.epochs * len(self.inputs.source), features) < LONG:
            return None
        return f"after these images the {self.phase} classifier of {features} features is solved"

    def why_at_an_end(self) -> str | None:
        """What to say of a penalty that was chosen at an end of those tried, if it was."""
        tried = [trial["penalty"] for trial in self.classifier.trials]
        if not tried or self.classifier.penalty not in (tried[0], tried[-1]):
            return None
        chosen = self.classifier.penalty
        which = "least" if chosen == tried[0] else "largest"
        return (
            f"the penalty chosen, {chosen:.3g}, is the {which} of the {len(tried)} tried: others "
            f"may be better (factors of the {self.phase} classifier)"
        )

    def end_epoch(self, epoch: int) -> list[MetricsRow]:
        if epoch < self.epochs:
            return []
        trials = [{"phase": "penalty", "epoch": epoch, **t} for t in self.classifier.trials]
        error = self.classifier.settings.error
        given = self.test.source, self.test_batch, error, self.test.ranks
        found, accuracy = evaluate(self.net, *given)
        row = {"phase": self.phase, "epoch": epoch, "penalty": self.classifier.penalty}
        return [*trials, row | {f"test_{error}": found, "test_accuracy": accuracy}]


class SolvedSteps:
    """Walks the images of a ``SolvedStage`` in the order of the set."""

    stage: SolvedStage
    say: Callable[[str], None]

    def __init__(self, stage: SolvedStage, say: Callable[[str], None]) -> None:
        self.stage, self.say = stage, say

    def walk(
        self, order: Tensor, start: int = 0, first: int = 0, seeds: tuple[int, int] | None = None
    ) -> Iterator[int]:
        """As ``EagerSteps.walk``; sums do not depend on the order."""
        end, size = first + self.stage.per_epoch, self.stage.ranks.size
        last = end == self.stage.epochs * self.stage.per_epoch
        if last and (text := self.stage.what_takes_long()):
            self.say(text)
        for number in range(first + start, end, size):
            asked = range(number, min(number + size, end))
            yield from self.stage.up_to(asked[-1])
            yield sum(map(self.stage.images, asked))
        if text := self.stage.why_at_an_end():
            self.say(text)
