"""What the results on Schicho's networks are held against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from softhebb_fast.experiments.claims import Claim, Evidence, near


def wave_violations(found: Evidence, cell: str, layers: list[str]) -> float:
    """How often a layer's gradient is not zero before its turn, or zero at it; NaN without a run.

    Of L layers the last learns at step 1, the first at step L.
    """
    wrong = []
    for i, name in enumerate(layers):
        turn = len(layers) - i
        gradients = dict(found.trace(cell, f"{name}.weight", "gradient"))
        wrong += [(gradients[s] != 0) != (s >= turn) for s in gradients if s <= turn]
    return float(sum(wrong)) if wrong else float("nan")


def _last(points: list[tuple[float, float]]) -> float:
    return points[-1][1] if points else float("nan")


def _gap(a: str, b: str) -> Any:
    return lambda found: found.mean(a) - found.mean(b)


def _accuracy(cell: str) -> Any:
    return lambda found: found.mean(cell)


def _above_logistic(found: Evidence) -> float:
    """The least lead of a zero start over logistic regression from epoch 3 on."""
    leads = [
        found.at_epoch(f"cifar-fnn-{start}", epoch) - found.at_epoch("cifar-fnn-logistic", epoch)
        for start in ("normal", "uniform")
        for epoch in range(3, 16)
    ]
    return min(leads) if all(lead == lead for lead in leads) else float("nan")


def claims() -> Iterator[Claim]:
    for name, chance in (("mnist-fnn", 11.35), ("cifar-fnn", 10.0)):
        zero, weight = f"{name}-zero", "1.weight"
        yield Claim("A1", f"`{zero}`, test %", _accuracy(zero), **near(chance, 0.01))
        deviation = lambda f, c=zero, w=weight: _last(f.trace(c, w, "deviation"))  # noqa: E731
        yield Claim("A1", f"`{zero}`, deviation of hidden rows", deviation, 0.0, 0.0)
    fnn = "mnist-fnn-"
    for start in ("normal", "uniform"):
        gap = _gap(fnn + "pytorch", fnn + start)
        yield Claim("A2", f"PyTorch's start above {start} biases, points", gap, 0.3, 0.9)
    gap = _gap(fnn + "normal-0.01", fnn + "normal")
    yield Claim("A3", "biases x 0.01 less those x 1, points", gap, -0.3, 0.3)
    yield Claim("A3", "biases x 100, test %", _accuracy(fnn + "normal-100"), 80.0, 90.0)
    gap = _gap(fnn + "logistic", fnn + "normal-100")
    yield Claim("A3", "logistic regression above biases x 100, points", gap, 0.0)
    for cell, layers in (
        ("mnist-fnn-normal", ["1", "3"]),
        ("mnist-cnn-quarter-normal", ["0", "2", "5"]),
        ("cifar-fnn-normal", ["1", "3", "5", "7"]),
    ):
        wave = lambda f, c=cell, n=tuple(layers): wave_violations(f, c, list(n))  # noqa: E731
        yield Claim("A4", f"`{cell}`, gradients out of turn", wave, 0.0, 0.0)
    for start in ("normal", "uniform"):
        cell = f"cifar-fnn-{start}"
        gap = _gap(cell, "cifar-fnn-pytorch")
        yield Claim("A5", f"{start} biases less PyTorch's start, points", gap, -1.5, 1.5)
    text = "least lead over logistic regression from epoch 3 on, points"
    yield Claim("A5", text, _above_logistic, 0.0)
    for name in ("mnist-cnn", "mnist-cnn-quarter"):
        cell = f"{name}-normal-100"
        yield Claim("A6", f"`{cell}`, test %", _accuracy(cell), **near(10.0, 1.5))
        cell = f"{name}-normal"
        yield Claim("A6", f"`{cell}`, test %", _accuracy(cell), 96.0)
    for name in ("cifar-cnn", "cifar-cnn-eighth", "cifar-cnn-eighth-10k"):
        for start in ("normal", "uniform"):
            cell = f"{name}-{start}"
            first = lambda f, c=cell: f.at_epoch(c, 1)  # noqa: E731
            yield Claim("A7", f"`{cell}`, test % after epoch 1", first, **near(10.0, 1.0))
            gap = _gap(f"{name}-pytorch", cell)
            yield Claim("A7", f"PyTorch's start above `{cell}`, points", gap, 8.0, 13.0)
    for start in ("normal", "uniform"):
        gap = _gap("resnet50-pytorch", f"resnet50-{start}")
        yield Claim("A8", f"PyTorch's start above `resnet50-{start}`, points", gap, 1.0, 2.0)
