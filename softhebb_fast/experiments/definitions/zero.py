"""ZerO by backpropagation: ranks of perceptrons, residual networks, depth without normalisation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from typing import Any

from softhebb_fast.experiments.cell import Cell, Experiment, Trace
from softhebb_fast.experiments.claims import Claim, Evidence, near
from softhebb_fast.experiments.definitions.nets import pixels
from softhebb_fast.experiments.definitions.zero_checks import CHECKS
from softhebb_fast.training.backprop_config import BackpropConfig

HE = {"name": "normal", "radius": math.sqrt(2)}
BRANCHES = {"name": "zerO", "zero_branches": True}
STARTS: dict[str, tuple[str, Any]] = {
    "partial": ("partial identity", "partial_identity"),
    "zero": ("ZerO", "zerO"),
    "branches": ("ZerO, branches end in zeros", BRANCHES),
    "kaiming": ("Kaiming normal", HE),
}
STEPS = (0, 50, 100, 200, 400, 700, 938, 1200, 1500, 1876, 2814, 4690, 9380, 18760)
MLP = {
    **{"network": "perceptron", "dataset": "mnist", "optimizer": "sgd", "lr": 0.1, "batch": 64},
    **{"epochs": 20, "milestones": [12], "factor": 0.7, "symmetry_steps": STEPS},
}
MIDDLE = "5.weight"  # of a perceptron: n to n
PUBLISHED_MLP = {  # test %, rank of the middle weight less the identity
    ("partial", 256): (98.42, 155),
    ("partial", 512): (98.30, 375),
    ("partial", 1024): (98.33, 572),
    ("partial", 2048): (98.33, 572),
    ("zero", 1024): None,
    ("zero", 2048): (98.39, 1080),
    ("kaiming", 1024): None,
    ("kaiming", 2048): (98.21, None),
}
SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "augment": "constant"}
CIFAR = {"dataset": "cifar10", **SGD}
CIFAR |= {"normalise": [[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]]}
FULL = {**CIFAR, "epochs": 200, "warm_up": 10, "milestones": [100, 150]}
NARROW = {**CIFAR, "images": 10_000, "epochs": 6, "warm_up": 1, "milestones": [4], "records": 4}
Network = tuple[str, dict[str, Any], tuple[float, float] | None, str]
# Title, network options; accuracies that a third party found, shortened, five seeds.
RESNETS: dict[str, Network] = {
    "resnet18": ("ResNet-18", {}, (90.27, 93.42), "20 to 35 minutes a run on an H100"),
    "resnet50": (
        "ResNet-50",
        {"blocks": [3, 4, 6, 3], "bottleneck": True},
        (92.22, 91.26),
        "about an hour a run on an H100",
    ),
    "resnet18-eighth": ("ResNet-18, an eighth of the width", {"width": 8}, None, ""),
}
DEEP = {"blocks": [18, 18, 18], "width": 8, "norm": "scalar", "stem_stride": 2}
DEEP_RUN = {"dataset": "cifar10", "images": 10_000, "epochs": 3, "records": 10, **SGD, "lr": 5e-4}
DEEP_MLP = {"hidden": [128] * 100, "bias": False, "activation": "relu"}
DEEP_MLP_RUN = {
    **{"network": "perceptron", "dataset": "mnist", "options": DEEP_MLP, "images": 20_000},
    **{"optimizer": "sgd", "lr": 0.01, "batch": 64, "epochs": 2, "records": 10},
}
FIRST_CONVS = {
    "resnet18": {"symmetry_steps": (0, 391, 1173, 3910, 19_550, 39_100, 78_200)},
    "resnet18-eighth": {"symmetry_steps": (0, 20, 79, 158, 316, 474)},
}


def _cell(name: str, title: str, series: str, run: dict[str, Any], **more: Any) -> Cell:
    options = {"panel": title, "series": series, "kind": BackpropConfig, **more}
    return Cell(name, f"{title}: {series}", run, **options)


def _perceptrons() -> Iterator[Cell]:
    for (start, n), found in PUBLISHED_MLP.items():
        label, init = STARTS[start]
        options = {"hidden": [784, n, n], "bias": False, "activation": "relu"}
        accuracy, rank = found or (None, None)
        published = {"test_accuracy": accuracy, "change_ranks": rank}
        yield _cell(
            f"mlp-{start}-{n}",
            f"MNIST perceptron, {n}",
            label,
            {**MLP, "options": options, "init": init},
            published={key: value for key, value in published.items() if value is not None},
            gpu="about five minutes a run on an H100" if n == 2048 else "",
        )


def _residual() -> Iterator[Cell]:
    for name, (title, options, found, gpu) in RESNETS.items():
        for start in ("zero", "branches", "kaiming"):
            label, init = STARTS[start]
            run = {"network": "resnet", "options": options, "init": init}
            run |= FULL if gpu else NARROW
            run |= FIRST_CONVS.get(name, {})
            accuracy = found and {"zero": found[0], "kaiming": found[1]}.get(start)
            published = {"test_accuracy": accuracy} if accuracy else {}
            more = {"published": published, "comparable": False, "gpu": gpu}
            yield _cell(f"{name}-{start}", title, label, run, **more)
        run = {"network": "zero_resnet", "options": options, **(FULL if gpu else NARROW)}
        yield _cell(f"{name}-v1", title, "ZerO's first version", run, gpu=gpu)


def _deep() -> Iterator[Cell]:
    title = "110 layers without normalisation"
    for start in ("zero", "branches", "kaiming"):
        label, init = STARTS[start]
        run = {"network": "resnet", "options": DEEP, "init": init, **DEEP_RUN}
        yield _cell(f"deep-resnet-{start}", title, label, run)
    # Its head is zero as well, so that it begins ten times as slowly.
    run = {"network": "zero_resnet", "options": DEEP, **DEEP_RUN, "lr": 5e-3}
    yield _cell("deep-resnet-v1", title, "ZerO's first version", run)
    for start in ("zero", "kaiming"):
        label, init = STARTS[start]
        run = {**DEEP_MLP_RUN, "init": init}
        yield _cell(f"deep-mlp-{start}", "MNIST perceptron of 101 layers", label, run)


def largest_rank(found: Evidence, cell: str, until: float = math.inf) -> float:
    """The largest rank of the middle weight's change up to a step, NaN without a run."""
    points = found.trace(cell, MIDDLE, "change_rank")
    return max((rank for step, rank in points if step <= until), default=math.nan)


def largest_fall(found: Evidence, cell: str) -> float:
    """The largest fall of that rank below its maximum before, in per cent of it."""
    ranks = [rank for _, rank in found.trace(cell, MIDDLE, "change_rank")]
    peaks = list(accumulate(ranks, max))
    falls = [100 * (1 - r / peak) for r, peak in zip(ranks, peaks, strict=True) if peak]
    return max(falls, default=math.nan)


def loss_fell(found: Evidence, cell: str) -> float:
    """How far the training loss fell from the first record to the last; -inf if it diverged."""
    losses = [loss for _, loss in found.curve(cell, "train_loss")]
    if not losses:
        return math.nan
    return losses[0] - losses[-1] if math.isfinite(losses[-1]) else -math.inf


def _claims() -> Iterator[Claim]:
    for name, text, most in (
        ("orthonormal", "columns of P = 2^m rows from orthonormal", 1e-6),
        ("entries", "entries other than 0, 1 and ±2^(-m/2)", 0.0),
        ("builds", "entries that two builds differ in", 0.0),
    ):
        yield Claim("B1", text, lambda f, n=name: f.checks.get(n, math.nan), 0.0, most)
    for n in (256, 512, 1024, 2048):
        rank = partial(largest_rank, cell=f"mlp-partial-{n}")
        yield Claim("B2", f"`mlp-partial-{n}`, largest rank of the change", rank, 0, 784)
    for n in (1024, 2048):
        rank = partial(largest_rank, cell=f"mlp-zero-{n}", until=1500)
        yield Claim("B3", f"`mlp-zero-{n}`, that rank up to step 1,500", rank, 785)
    for start, n in PUBLISHED_MLP:
        accuracy = lambda f, c=f"mlp-{start}-{n}": f.mean(c)  # noqa: E731
        yield Claim("B4", f"`mlp-{start}-{n}`, test %", accuracy, **near(98.3, 0.2))
    for cell in (*(f"mlp-partial-{n}" for n in (256, 512, 1024)), "mlp-zero-1024"):
        start = partial(largest_rank, cell=cell, until=0)
        yield Claim("B5", f"`{cell}`, rank of the change at the start", start, 0, 0)
        fall = partial(largest_fall, cell=cell)
        yield Claim("B5", f"`{cell}`, largest fall of that rank, %", fall, 0.0, 2.0)
    for start in ("zero", "branches", "v1"):
        gap = lambda f, s=start: f.mean("resnet18-kaiming") - f.mean(f"resnet18-{s}")  # noqa: E731
        yield Claim("B6", f"Kaiming's start above `resnet18-{start}`, points", gap, -0.5, 0.5)
    calmer = lambda f: f.spread("resnet18-kaiming", 5) - f.spread("resnet18-zero", 5)  # noqa: E731
    text = "deviation of 5 seeds, that of `resnet18-kaiming` less that of `resnet18-zero`, points"
    yield Claim("B7", text, calmer, 0.0)
    for cell in ("deep-resnet-branches", "deep-resnet-v1", "deep-mlp-zero"):
        fell = partial(loss_fell, cell=cell)
        yield Claim("B8", f"`{cell}`, fall of the training loss", fell, 0.1)
    for cell in ("deep-resnet-kaiming", "deep-mlp-kaiming"):
        fell = partial(loss_fell, cell=cell)
        yield Claim("B8", f"`{cell}`, fall of the training loss", fell, at_most=0.1)


EXPERIMENT = Experiment(
    "zero",
    "ZerO by backpropagation",
    "Zhao, Schäfer, Anandkumar 2022: the published MNIST notebook; of residual networks a third "
    "party's shortened runs, five seeds",
    """Ranks are those of the weight from n to n, less what it was at the start (singular values
above 1e-4); Kaiming's published one is of the weight less the identity. The table lists the ranks
of all four weights. What the paper's second version did with the last convolution of a residual
branch is not established: *ZerO* starts every layer by Algorithm 2, with *branches end in zeros*
those are zero. *ZerO's first version* is the network that was once published: reversed
pre-activation, a skip round every 3x3 convolution, all of which are zero. Networks of 110 layers
have a learned scale and bias in the place of each normalisation, maps of 16x16 and 8, 16 and 32
channels. Narrow networks learn from 10,000 images. Their accuracies say who learns, not how well
the full network would.""",
    (*_perceptrons(), *_residual(), *_deep(), pixels("mnist"), pixels("cifar10")),
    {"test_accuracy": "test %", "change_ranks": "ranks of the change", "train_loss": "train loss"},
    figure="learning",
    traces=(
        Trace("rank of the change, n to n", "mlp-*", MIDDLE, "change_rank", log=False),
        Trace("stable rank of the weight, n to n", "mlp-*", MIDDLE, "stable_rank", log=False),
        *(
            Trace(
                f"stable rank, first convolution of group {group}{narrow}",
                cells,
                f"{2 * group + 1}.branch.0.weight",
                "stable_rank",
                log=False,
            )
            for cells, narrow in (("resnet18-[!e]*", ""), ("resnet18-eighth-*", ", narrow"))
            for group in (2, 3, 4)
        ),
    ),
    checks=CHECKS,
    claims=tuple(_claims()),
)
