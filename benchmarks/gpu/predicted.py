"""How long steps should take on an H100: computed, by a model that was fitted to an earlier day.

    python -m benchmarks.gpu.predicted     # recompute predicted.csv, some minutes

A step takes ``model()[0]`` times the floors of its kernels, and of every launch some microseconds,
more of those that multiply. The three numbers are fitted to seven steps that an H100 ran; the
floors of the kernels as they then were are in ``calibration.csv``. What the numbers say of kernels
that have not run since is a prediction and no measurement.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.gpu import budget, counters
from benchmarks.gpu.counting import count
from benchmarks.gpu.layers import CIFAR, call
from benchmarks.gpu.offline import record
from benchmarks.gpu.tables import read, total
from benchmarks.gpu.traffic import hbm_bytes
from benchmarks.gpu.training_calls import BATCH, IMAGES, ROWS, batch_of_features, norm, probe
from softhebb_fast.files import write_csv

HERE = Path(__file__).parent
TABLE, CALIBRATION = HERE / "predicted.csv", HERE / "calibration.csv"
DAY = HERE.parent / "results" / "h100"
FIELDS = ("what", "precision", "floor_us", "launches", "products", "predicted_us")
PRODUCTS = (*counters.PRODUCTS, "classify", "descend")
PROVIDERS = {
    "tf32": "triton-graph-tf32",
    "bfloat16": "triton-graph-bf16",
    "bf16x6": "triton-graph-bf16x6",
}
FITTED = ("tf32", "bfloat16")  # whose floors were counted at that commit
NETWORKS = budget.NETWORKS
COUNTED_IMAGES = 640  # which a batch is drawn from: more move no more, but take memory
CLASSIFIER_STEPS = 50 * -(-IMAGES // ROWS)
HEBBIAN_STEPS = IMAGES // BATCH


class Work(NamedTuple):
    """What a step has to do: floors in us, launches, and those among them that multiply."""

    floor_us: float
    launches: float
    products: float

    def plus(self, other: Work) -> Work:
        return Work(*map(sum, zip(self, other, strict=True)))


def calibration() -> list[tuple[str, Work, float]]:
    """The steps that were measured: what, its work, and us."""
    table = {(r["layer"], r["precision"]): r for r in read(CALIBRATION)}
    steps = {(r["case"], r["provider"]): float(r["median"]) * 1e6 for r in read(DAY / "steps.csv")}
    found = []
    for batch in (10, 100):
        for precision in FITTED:
            own = [table[f"{layer}@{batch}", precision] for layer in CIFAR]
            work = Work(*(total(own, name) for name in Work._fields))
            case = f"cifar10/step/b{batch}"
            found.append((f"{case} {precision}", work, steps[case, PROVIDERS[precision]]))
    phases = read(DAY / "phases.csv")
    for i, layer in enumerate(CIFAR, 1):
        own = [r for r in phases if r["phase"] == f"cifar10/run/layer{i}"]
        then = table[f"{layer}@10", "tf32"]
        work = Work(float(then["floor_us"]), total(own, "launches"), float(then["products"]))
        found.append((f"layer {i} of the run, tf32", work, total(own, "us")))
    return found


@cache
def model() -> tuple[float, float, float]:
    """Of a step: the factor of its floors, us a launch, and us more a product; least relative
    squares."""
    _, works, times = zip(*calibration(), strict=True)
    scaled = np.array(works) / np.array(times)[:, None]
    factor, launch, product = np.linalg.lstsq(scaled, np.ones(len(times)), rcond=None)[0]
    return round(float(factor), 2), round(float(launch), 2), round(float(product), 2)


def time_of(work: Work) -> float:
    """The us that a step should take."""
    return sum(a * b for a, b in zip(model(), work, strict=True))


def work(*calls: Callable[[], object]) -> Work:
    """That of ``calls``, counted in the emulator, without the classifier's test."""
    found = Work(0, 0, 0)
    for one in calls:
        launches = [launch for launch in record(one, "sm_90a") if launch.name != "judge"]
        layer = any(launch.name in counters.PRODUCTS for launch in launches)
        moved = hbm_bytes(launches) if layer else [0.0] * len(launches)
        floors = [count(launch, b)["floor_us"] for launch, b in zip(launches, moved, strict=True)]
        products = sum(launch.name in PRODUCTS for launch in launches)
        found = found.plus(Work(sum(floors), len(launches), products))
    return found


def layers(batch: int, precision: str) -> list[Callable[[], object]]:
    """A learning step of the CIFAR-10 net's three layers."""
    return [call(f"{layer}@{batch}", precision) for layer in CIFAR]


def classifier(members: int) -> Callable[[], object]:
    """A step of so many classifiers."""
    return partial(probe, members=members, images=COUNTED_IMAGES)


def rows() -> Iterator[dict[str, str]]:
    def row(what: str, precision: str, *calls: Callable[[], object]) -> dict[str, str]:
        own = Work(*(round(value, 2) for value in work(*calls)))
        values = dict(zip(Work._fields, own, strict=True))
        predicted = f"{time_of(own):.1f}"
        return {"what": what, "precision": precision, **values, "predicted_us": predicted}

    for batch in (10, 100):
        for precision in PROVIDERS:
            yield row(f"cifar10/step/b{batch}", precision, *layers(batch, precision))
    beside = (partial(batch_of_features, COUNTED_IMAGES), norm) * len(CIFAR)
    together = [budget.step(layer, "tf32", "together") for layer in CIFAR]
    yield row("hebbian", "tf32", *layers(10, "tf32"), *beside)
    yield row(f"hebbian, {NETWORKS} networks", "tf32", *together, *beside)
    yield row("classifier", "float32", classifier(1))
    yield row(f"classifier, {NETWORKS} networks", "float32", classifier(NETWORKS))


def main() -> int:
    write_csv(TABLE, FIELDS, rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
