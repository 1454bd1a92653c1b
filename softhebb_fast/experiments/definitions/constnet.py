"""ConstNet and LeakyNet: networks whose channels start equal, and what parts them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from softhebb_fast.experiments.cell import Cell, Experiment, Trace
from softhebb_fast.experiments.claims import Claim, Evidence
from softhebb_fast.experiments.definitions.constnet_checks import CHECKS
from softhebb_fast.experiments.definitions.nets import pixels
from softhebb_fast.training.backprop_config import BackpropConfig

SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "augment": "reflect"}
NORMALISE = [[125.3 / 255, 123 / 255, 113.9 / 255], [63 / 255, 62.1 / 255, 66.7 / 255]]
CIFAR = {"network": "constnet", "dataset": "cifar10", "lr": 0.03, **SGD, "normalise": NORMALISE}
STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 632)
SMALL = {**CIFAR, "images": 10_000, "epochs": 8, "test_every": 4, "symmetry_steps": STEPS}
FULL = {**CIFAR, "epochs": 300, "milestones": [160, 220, 260], "factor": 0.2}
NOISE, DROPOUT = 1e-7, 0.01
ARMS: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any]]] = {  # init, breakers, options
    "const": ("constant, deterministic", "constant", {}, {}),
    "noise": ("constant, noise 1e-7", "constant", {"weight_noise": NOISE}, {}),
    "dropout": ("constant, dropout 0.01", "constant", {}, {"dropout": DROPOUT}),
    "he": ("He's start", None, {}, {}),
}
GPU_ARMS = {
    "nondeterministic": ("constant, cuDNN free to choose", "constant", False, 0.0),
    "deterministic": ("constant, deterministic", "constant", True, 0.0),
    "dropout": ("constant, cuDNN free to choose, dropout 0.01", "constant", False, DROPOUT),
    "deterministic-dropout": ("constant, deterministic, dropout 0.01", "constant", True, DROPOUT),
    "he": ("He's start", None, False, 0.0),
}
COSTS = {
    1: "about 10 minutes a run on an H100",
    4: "15 to 30 minutes a run on an H100",
    10: "50 to 100 minutes a run on an H100",
}
CODES = (  # stem and three groups of four
    "h_hhhh_hhhh_hhhh",
    "i_iiii_iiii_iiii",
    "1_iiii_iiii_iiii",
    "1_iiii_11ii_iiii",
    "1_iiii_1111_iiii",
    "1_ii11_ii11_ii11",
    "1_1111_1111_1111",
)
LEAKY = {
    **{"network": "leakynet", "dataset": "mnist", "lr": 0.03, **SGD, "augment": None},
    **{"images": 10_000, "epochs": 20, "test_every": 20, "records": 39, "weight_noise": NOISE},
}
LEAKY_FULL = {"network": "leakynet", "deterministic": False}
LAST = "12.conv.weight"
CONVOLUTIONS = ("0.weight", "*.conv.weight", "*.skip.weight")  # all but the head


def _cells() -> Iterator[Cell]:
    common = {"kind": BackpropConfig}
    title = "CIFAR-10, ConstNet, widen 1"
    for name, (label, init, breakers, options) in ARMS.items():
        run = {**SMALL, "init": init, "options": {"widen": 1, **options}, **breakers}
        yield Cell(f"w1-{name}", f"{title}: {label}", run, panel=title, series=label, **common)
    for widen, cost in COSTS.items():
        title = f"CIFAR-10, ConstNet, widen {widen}, 300 epochs"
        for name, (label, init, deterministic, p) in GPU_ARMS.items():
            run = {**FULL, "init": init, "deterministic": deterministic}
            run |= {"options": {"widen": widen, "dropout": p}, "symmetry_steps": STEPS}
            names = {"panel": title, "series": label, "gpu": cost, **common}
            yield Cell(f"full-w{widen}-{name}", f"{title}: {label}", run, **names)
    for name, title, run, widen, cost in (
        ("leaky", "MNIST, LeakyNet, widen 1", LEAKY, 1, ""),
        ("full-leaky", "CIFAR-10, LeakyNet, widen 10", FULL | LEAKY_FULL, 10, COSTS[10]),
    ):
        for codes in CODES:
            options = {"options": {"widen": widen, "codes": codes}}
            names = {"panel": title, "series": codes, "gpu": cost, **common}
            yield Cell(f"{name}-{codes}", f"{title}: {codes}", {**run, **options}, **names)


def grown(found: Evidence, cell: str) -> float:
    """The deviation of the last convolution at step 200 over that at the first step with any."""
    points = dict(found.trace(cell, LAST, "deviation"))
    early = [value for step, value in points.items() if value > 0 and step < 200]
    return points[200.0] / early[0] if early and 200.0 in points else math.nan


def largest_deviation(found: Evidence, cell: str) -> float:
    """The largest deviation between channels in any layer but the head, at any step."""
    points = (found.trace(cell, weight, "deviation") for weight in CONVOLUTIONS)
    return max((value for one in points for _, value in one), default=math.nan)


def correlation(found: Evidence, cell: str, step: float) -> float:
    """The forward correlation of the last convolution at that step."""
    return dict(found.trace(cell, LAST, "forward_correlation")).get(step, math.nan)


def epochs_to_half(found: Evidence, cell: str) -> float:
    """After how many epochs training accuracy is first above 50 per cent; inf if never."""
    points = found.curve(cell, "train_accuracy")
    first = next((epoch for epoch, accuracy in points if accuracy > 50), math.inf)
    return first if points else math.nan


def later(found: Evidence, slower: str, faster: str) -> float:
    """How much later one cell is at 50 per cent than another; NaN if neither gets there."""
    return epochs_to_half(found, slower) - epochs_to_half(found, faster)


def _claims() -> Iterator[Claim]:
    def check(name: str) -> Any:
        return lambda found: found.checks.get(name, math.nan)

    yield Claim("C1", "deviation of channels at the start", check("deviation"), 0.0, 0.0)
    yield Claim("C1", "largest logit at the start", check("logits"), 0.0, 0.0)
    yield Claim("C1", "loss at the start from ln 10", check("loss"), 0.0, 1e-6)
    yield Claim("C2", "maps of a group from its first", check("maps"), 0.0, 0.0)
    yield Claim("C2", "gradient norms there, relative", check("gradients"), 0.0, 1e-6)
    symmetric = partial(largest_deviation, cell="w1-const")
    yield Claim("C3", "`w1-const`, deviation in 632 steps", symmetric, 0.0, 0.0)
    accuracy = lambda found: found.mean("w1-const")  # noqa: E731
    yield Claim("C3", "`w1-const`, test % after 632 steps", accuracy, at_most=25.0)
    for name in ("noise", "dropout"):
        cell = f"w1-{name}"
        growth = partial(grown, cell=cell)
        yield Claim("C4", f"`{cell}`, growth of the deviation to step 200", growth, 1e3)
        parted = partial(correlation, cell=cell, step=400.0)
        yield Claim("C4", f"`{cell}`, forward correlation at step 400", parted, at_most=0.6)
        gap = lambda f, c=cell: f.mean(c) - f.mean("w1-const")  # noqa: E731
        yield Claim("C5", f"`{cell}` above `w1-const` at step 632, points", gap, 5.0)
        lag = lambda f, c=cell: f.mean("w1-he") - f.mean(c)  # noqa: E731
        yield Claim("C5", f"`w1-he` above `{cell}`, points", lag, 0.0)
    gap = lambda f: f.mean("full-w10-he") - f.mean("full-w10-nondeterministic")  # noqa: E731
    yield Claim("C6", "He's start above ConstNet, widen 10, points", gap, -1.0, 1.0)
    yield Claim("C7", "a pair of identities from -x", check("pair"), 0.0, 1e-6)
    for slower, faster in zip(CODES[1:], CODES, strict=False):
        lag = partial(later, slower=f"leaky-{slower}", faster=f"leaky-{faster}")
        yield Claim("C7", f"`{slower}` later at 50 % than `{faster}`, epochs", lag, 0.0)
    for name, least, most in (("nondeterministic", 1e-12, math.inf), ("deterministic", 0.0, 0.0)):
        cell = f"full-w1-{name}"
        deviation = partial(largest_deviation, cell=cell)
        yield Claim("C8", f"`{cell}`, deviation in 632 steps", deviation, least, most)


EXPERIMENT = Experiment(
    "constnet",
    "ConstNet and LeakyNet",
    "Blumenfeld, Gilboa, Soudry 2020 (the published code; its accuracies could not be retrieved)",
    """All channels of a layer start equal: the stem and the skips average, everything else is
zero. On the CPU torch is deterministic, so that equal channels stay equal and the network learns
like one with a single channel a layer. Noise of 1e-7 on the weights stands in for what
non-deterministic sums of cuDNN do on a GPU; dropout is the paper's other breaker. Here 10,000
images for 8 epochs, 632 steps; the full protocol, widen 1, 4 and 10, needs a GPU. LeakyNet has no
skips; its layers start by a code, the stem first: h random, i identity, 1 average. It learns from
10,000 digits of MNIST, with noise of 1e-7 in every arm, because nothing else would part its
channels on the CPU.""",
    (*_cells(), pixels("cifar10")),
    {"test_accuracy": "test %", "train_accuracy": "train %"},
    figure="learning",
    verdict="",
    traces=(
        Trace("deviation of channels, last convolution", "w1-*", LAST, "deviation"),
        Trace(
            "forward correlation, last convolution", "w1-*", LAST, "forward_correlation", log=False
        ),
        Trace("effective rank, last convolution", "w1-*", LAST, "effective_rank", log=False),
    ),
    checks=CHECKS,
    claims=tuple(_claims()),
)
