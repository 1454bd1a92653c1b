"""How long steps should take on an H100: computed, by a model that was fitted to an earlier day.

    python -m benchmarks.gpu.predicted     # recompute predicted.csv, some minutes

A step takes ``model()[0]`` times the floors of its kernels, and of every launch some microseconds,
more of those that multiply. The three numbers are fitted to seven steps that an H100 ran; the
floors of the kernels as they then were are in ``calibration.csv``. What the numbers say of kernels
that have not run since is a prediction and no measurement.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.gpu import budget
from benchmarks.gpu.counting import count
from benchmarks.gpu.layers import CIFAR, call
from benchmarks.gpu.offline import Launch, record
from benchmarks.gpu.tables import read, total
from benchmarks.gpu.traffic import hbm_bytes
from benchmarks.gpu.training_calls import IMAGES, ROWS, batch_of_features, norm, probe
from softhebb_fast.files import write_csv

HERE = Path(__file__).parent
TABLE, CALIBRATION = HERE / "predicted.csv", HERE / "calibration.csv"
DAY = HERE.parent / "results" / "h100"
FIELDS = ("what", "precision", "floor_us", "launches", "products", "predicted_us")
PRODUCTS = ("one_pass", "forward", "plasticity", "classify", "descend")
MEASURED = {"tf32": "triton-graph-tf32", "bfloat16": "triton-graph-bf16"}
NETWORKS = budget.NETWORKS
COUNTED_IMAGES = 640  # which a step of the classifier draws from: more move no more
CLASSIFIER_STEPS = 50 * -(-IMAGES // ROWS)
HEBBIAN_STEPS = 5000


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
        for precision, provider in MEASURED.items():
            own = [table[f"{layer}@{batch}", precision] for layer in CIFAR]
            work = Work(*(total(own, name) for name in Work._fields))
            case = f"cifar10/step/b{batch}"
            found.append((f"{case} {precision}", work, steps[case, provider]))
    phases = read(DAY / "phases.csv")
    for i, layer in enumerate(CIFAR, 1):
        own = [r for r in phases if r["phase"] == f"cifar10/run/layer{i}"]
        then = table[f"{layer}@10", "tf32"]
        work = Work(float(then["floor_us"]), total(own, "launches"), float(then["products"]))
        found.append((f"layer {i} of the run, tf32", work, total(own, "us")))
    return found


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


def work(launches: Iterable[Launch]) -> Work:
    """That of launches, counted in the emulator."""
    launches = list(launches)
    layer = any(launch.name in PRODUCTS[:3] for launch in launches)
    moved = hbm_bytes(launches) if layer else [0.0] * len(launches)
    floors = [count(launch, b)["floor_us"] for launch, b in zip(launches, moved, strict=True)]
    products = sum(launch.name in PRODUCTS for launch in launches)
    return Work(sum(floors), len(launches), products)


def layers(batch: int, precision: str) -> Work:
    """That of a learning step of the CIFAR-10 net's three layers."""
    found = Work(0, 0, 0)
    for layer in CIFAR:
        found = found.plus(work(record(call(f"{layer}@{batch}", precision), "sm_90a")))
    return found


def together() -> Work:
    """That of ``NETWORKS`` nets side by side, a block in the place of each layer."""
    found = Work(0, 0, 0)
    for layer in CIFAR:
        found = found.plus(work(record(budget.step(layer, "tf32", "together"), "sm_90a")))
    return found


def classifier(members: int) -> Work:
    """That of a step of so many classifiers, without their test."""
    found = record(lambda: probe(members=members, images=COUNTED_IMAGES), "sm_90a")
    return work(launch for launch in found if launch.name != "judge")


def rows() -> Iterator[dict[str, str]]:
    def row(what: str, precision: str, own: Work) -> dict[str, str]:
        own = Work(*(round(value, 2) for value in own))
        values = dict(zip(Work._fields, own, strict=True))
        predicted = f"{time_of(own):.1f}"
        return {"what": what, "precision": precision, **values, "predicted_us": predicted}

    for batch in (10, 100):
        for precision in ("tf32", "bfloat16", "bf16x6"):
            yield row(f"cifar10/step/b{batch}", precision, layers(batch, precision))
    images = work(record(batch_of_features, "sm_90a"))
    norms = work(record(norm, "sm_90a"))
    beside = Work(*(len(CIFAR) * (a + b) for a, b in zip(images, norms, strict=True)))
    yield row("hebbian", "tf32", layers(10, "tf32").plus(beside))
    yield row("hebbian, 8 networks", "tf32", together().plus(beside))
    yield row("classifier", "float32", classifier(1))
    yield row("classifier, 8 networks", "float32", classifier(NETWORKS))


def main() -> int:
    write_csv(TABLE, FIELDS, rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
