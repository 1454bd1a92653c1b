"""The phases of a CIFAR-10 run, timed a step at a time: what the time to an accuracy is made of.

Published protocol: one epoch of each Hebbian layer in batches of 10, then 50 epochs of the
classifier in batches of 64, then the test. The published code computes the whole network in every
step, whatever learns, and evaluates in epoch 1, in every tenth and in the last; this package keeps
the features below what learns and evaluates after every epoch. The images are random: the time
does not depend on them, but for denormals, of which the initial weights bring the most.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from softhebb_fast.bench.cases import CHUNK, Case
from softhebb_fast.bench.inputs import Inputs, laid_out
from softhebb_fast.bench.published import PublishedNet, loader
from softhebb_fast.data import ImageSet, permutation
from softhebb_fast.models import SoftHebbNet
from softhebb_fast.training import fused_classifier, steps
from softhebb_fast.training.classifier import evaluate
from softhebb_fast.training.features import FeatureSet, cache_features
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.stage import BatchSource, Stage
from softhebb_fast.training.supervised_stage import SupervisedStage

IMAGES = 4000  # that batches are drawn from: their features exceed any cache
Network = Callable[[Case, Inputs], SoftHebbNet]


def images(case: Case, device: torch.device) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    shape = (IMAGES, *case.parts[0].shape)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(case.classes, (IMAGES,), generator=generator)
    classes = tuple(map(str, range(case.classes)))
    return ImageSet("random", "train", pixels.to(device), labels.to(device), classes)


def published_learn(case: Case, given: Inputs) -> Callable[[], object]:
    """One batch of the loader, the whole network computed, one layer updated."""
    net, walk = _published(case, given)
    return lambda: net.learn(next(walk)[0], [case.trained])


def published_classify(case: Case, given: Inputs) -> Callable[[], object]:
    """One batch of the loader, features computed for it, a step of the classifier."""
    net, walk = _published(case, given)
    optimizer = torch.optim.Adam(net.head.parameters(), lr=1e-3)
    return lambda: net.classify(*next(walk), optimizer)


def published_evaluate(case: Case, given: Inputs) -> Callable[[], object]:
    net, walk = _published(case, given)
    return lambda: net.evaluate_batch(*next(walk))


def learn(case: Case, given: Inputs, network: Network) -> Callable[[], object]:
    """One step of the trainer's stage, on features that are kept."""
    net = network(case, given)
    source = images(case, given.x.device)
    if case.trained:
        below = torch.randn(IMAGES, *case.parts[case.trained].shape, device=source.device)
        inputs = BatchSource(FeatureSet(laid_out(below, given.layout), source.labels), [])
    else:
        inputs = BatchSource(source, [])
    stage = HebbianStage(net, inputs, source, [case.trained], 1, case.batch)
    return _stepper(stage)


def features(case: Case, given: Inputs, network: Network) -> Callable[[], object]:
    """A chunk through one more block, from images or from the features below it."""
    net, source = network(case, given).eval(), images(case, given.x.device).subset(CHUNK)
    if case.trained > 1:
        below = torch.randn(CHUNK, *case.parts[case.trained - 1].shape, device=source.device)
        source = FeatureSet(laid_out(below, given.layout), source.labels)
    blocks = list(net.blocks[case.trained - 1 : case.trained])
    return lambda: cache_features(source, blocks)


def features_of_test(case: Case, given: Inputs, network: Network) -> Callable[[], object]:
    """A chunk of the test set through all blocks."""
    net, source = network(case, given).eval(), images(case, given.x.device).subset(CHUNK)
    return lambda: cache_features(source, list(net.blocks))


def classify(case: Case, given: Inputs, network: Network) -> Callable[[], object]:
    """One step of the trainer's classifier, on features that are kept."""
    net = network(case, given)
    kept, depth = BatchSource(_kept(case, given), []), len(net.blocks)
    if fused_classifier.fits(net.head, kept.source.device, "auto"):
        return _stepper(fused_classifier.ClassifierStage(net, kept, kept, 50, case.batch, 0))
    stage = SupervisedStage(net, kept, kept, kept.source, depth, 50, case.batch, 1000)
    return _stepper(stage)


def evaluate_batch(case: Case, given: Inputs, network: Network) -> Callable[[], object]:
    """A batch of the test set, whose features are kept."""
    net, kept = network(case, given), _kept(case, given)
    batch = FeatureSet(kept.images[: case.batch], kept.labels[: case.batch])
    return lambda: evaluate(nn.Sequential(*net.head), batch, case.batch)


def _published(case: Case, given: Inputs) -> tuple[PublishedNet, Iterator[list[Tensor]]]:
    net = PublishedNet(case.parts, given.weights, case.classes, case.dropout)
    return net, _endless(loader(images(case, given.x.device), case.batch))


def _endless(batches: DataLoader) -> Iterator[list[Tensor]]:
    for _ in itertools.count():
        yield from batches


def _kept(case: Case, given: Inputs) -> FeatureSet:
    source = images(case, given.x.device)
    shape = (IMAGES, *case.parts[-1].output)
    return FeatureSet(torch.rand(shape, device=source.device), source.labels)


def _stepper(stage: Stage) -> Callable[[], object]:
    """Steps of the stage; where many are done at once, as many calls have nothing to do."""

    def walk() -> Iterator[int]:
        runner = steps.runner(stage)
        for epoch in itertools.count():
            yield from runner.walk(permutation(len(stage.inputs.source), 0, epoch))

    walked, done = walk(), 0

    def call() -> None:
        nonlocal done
        if done == 0:
            done = -(-next(walked) // stage.batch_size)
        done -= 1

    return call
