"""The predicted times of a GPU: the model, and the committed table beside the kernels."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from benchmarks.gpu import counters, predicted
from benchmarks.gpu.tables import read, total
from tests.benchmarks.test_budget import OF_ANOTHER
from tests.kernels.conftest import emulator  # noqa: F401


def table() -> dict[tuple[str, str], dict[str, str]]:
    return {(row["what"], row["precision"]): row for row in read(predicted.TABLE)}


def test_the_model_gives_back_what_it_was_fitted_to():
    factor, launch, product = predicted.model()
    assert factor > 1
    assert launch > 0
    assert product > 0
    for what, work, us in predicted.calibration():
        assert predicted.time_of(work) == pytest.approx(us, rel=0.15), what


def test_it_predicts_steps_that_it_was_not_fitted_to():
    measured = {
        row["case"]: 1e6 * float(row["median"])
        for row in read(predicted.DAY / "steps.csv")
        if row["provider"] == "triton-graph-bf16x6"
    }
    for case, us in measured.items():
        assert float(table()[case, "bf16x6"]["predicted_us"]) == pytest.approx(us, rel=0.2)


def test_every_row_is_what_the_model_says():
    for row in table().values():
        work = predicted.Work(*(float(row[name]) for name in predicted.Work._fields))
        assert float(row["predicted_us"]) == pytest.approx(predicted.time_of(work), abs=0.1)


@pytest.mark.parametrize("batch", [10, 100])
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_floors_of_steps_are_those_of_the_table_of_counters(batch, precision):
    of_step = {f"{layer}@{batch}" for layer in predicted.CIFAR}
    own = [
        row
        for row in read(counters.TABLE)
        if row["layer"] in of_step and row["precision"] == precision
    ]
    row = table()[f"cifar10/step/b{batch}", precision]
    assert float(row["floor_us"]) == pytest.approx(total(own, "floor_us"), abs=0.01)
    assert int(row["launches"]) == len(own)


@OF_ANOTHER
@pytest.mark.usefixtures("emulator")
def test_a_step_of_the_classifier_counts_what_the_table_says():
    row = table()["classifier", "float32"]
    work = predicted.work(predicted.classifier(1))
    assert work.floor_us == pytest.approx(float(row["floor_us"]), abs=0.01)
    assert (work.launches, work.products) == (int(row["launches"]), int(row["products"]))
