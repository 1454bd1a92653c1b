"""The trials of what a classifier is shown."""

from __future__ import annotations

import csv

import pytest
import torch

from benchmarks.features import crops, digits, few_ones, one_layer, starts, trials
from softhebb_fast.experiments.definitions.record import EXPERIMENT
from softhebb_fast.models import Views, build
from softhebb_fast.presets import get_preset
from tests.tiny import write_mnist_subset
from tests.tolerances import TOLERANCES, assert_close


def test_every_way_is_judged_by_images_that_nothing_has_learned_from(tmp_path):
    out, root = tmp_path / "trials.csv", write_mnist_subset(tmp_path / "data", 300)
    options = {"dataset": "mnist", "data": root, "images": 200, "validation": 100, "out": out}
    options |= {"neuron-factor": 0.05}
    assert trials.main([f"--{name}={value}" for name, value in options.items()]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["features"] for row in rows)) == list(trials.VARIANTS)
    assert {row["images"] for row in rows} == {"as they are", "of local contrast"}
    judged = trials.cases(0.25)
    assert len(rows) == sum(len(kinds) for case in judged for kinds in case.shown.values())
    assert {row["network"] for row in rows} == {case.network for case in judged}
    assert [row["features"] for row in rows if row["classifier"] == "softmax"] == [trials.BEST]
    assert all(20 < float(row["accuracy"]) <= 100 for row in rows)
    sizes = {row["features"]: int(row["size"]) for row in rows if row["network"] == trials.WHOLE}
    first, second = 16 * 6, 9 * 51  # 6 and 51 neurons on grids of 4x4 and 3x3
    assert sizes["one side"] == first + second
    assert sizes["both sides"] == first + 2 * second


def test_local_contrast_knows_no_brightness_and_hardly_any_scale():
    torch.manual_seed(0)
    x = torch.rand(2, 1, 20, 20)
    found = trials.local_contrast(x)
    assert found.shape == x.shape
    assert torch.allclose(trials.local_contrast(x + 3), found, atol=1e-5)
    assert not trials.local_contrast(torch.full((1, 3, 12, 12), 0.4)).abs().max() > 1e-5
    larger = trials.local_contrast(100 * x)
    assert float((larger * found).sum() / larger.norm() / found.norm()) == pytest.approx(
        1, abs=0.02
    )


def test_few_ones_are_tried_above_the_best_below(tmp_path, monkeypatch):
    out, root = tmp_path / "ones.csv", write_mnist_subset(tmp_path / "data", 120)
    monkeypatch.setattr(few_ones, "TRIED", ((2, 4), (4, 8)))
    options = {"dataset": "mnist", "data": root, "images": 80, "validation": 40, "out": out}
    options |= {"neuron-factor": 0.05}
    assert few_ones.main([f"--{name}={value}" for name, value in options.items()]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["every"] for row in rows] == ["2", "4", "random", "4", "8", "random"]
    best = max(rows[:2], key=lambda row: float(row["accuracy"]))
    assert [row["below"] for row in rows] == ["", "", "", *[best["every"]] * 3]
    assert [row["layer"] for row in rows] == ["1"] * 3 + ["2"] * 3
    assert len({(row["norm_mean"], row["accuracy"]) for row in rows}) == 6
    assert all(0 < float(row["accuracy"]) <= 100 for row in rows)


@pytest.mark.parametrize("classifier", crops.SETTINGS)
def test_crops_and_moved_images_are_judged_by_other_images(classifier, tmp_path, monkeypatch):
    out, root = tmp_path / "crops.csv", write_mnist_subset(tmp_path / "data", 200)
    monkeypatch.setattr(crops, "PADDINGS", (0, 2))
    monkeypatch.setattr(crops, "SHIFTS", (0, 1))
    options = {"dataset": "mnist", "data": root, "images": 140, "validation": 60, "out": out}
    options |= {"neuron-factor": 0.05, "classifier": classifier}
    assert crops.main([f"--{name}={value}" for name, value in options.items()]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["padding"], row["passes"], row["shifts"]) for row in rows] == [
        *[("0", "1", "0"), ("0", "1", "1")],
        *[("2", "2", "0"), ("2", "2", "1")],
    ]
    assert {row["classifier"] for row in rows} == {classifier}
    assert len({(row["penalty"], row["accuracy"]) for row in rows}) > 2
    assert all(20 < float(row["accuracy"]) <= 100 for row in rows)


def test_digits_are_judged_by_each_classifier(tmp_path, monkeypatch):
    out, root = tmp_path / "digits.csv", write_mnist_subset(tmp_path / "data", 200)
    tried = [digits.Case(3, 0.5), digits.Case(4, 0.4, "softmax")]
    monkeypatch.setattr(digits, "TRIED", tried)
    options = {"data": root, "images": 140, "validation": 60, "out": out, "neuron-factor": 0.05}
    assert digits.main([f"--{name}={value}" for name, value in options.items()]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["grid"], row["classifier"]) for row in rows] == [("3", "ridge"), ("4", "softmax")]
    assert {row["dataset"] for row in rows} == {"mnist"}
    assert all(20 < float(row["accuracy"]) <= 100 for row in rows)


def test_the_digits_of_the_record_are_among_those_tried():
    case = digits.Case(4, 0.4, "softmax").run()
    cell = next(cell for cell in EXPERIMENT.cells if cell.name == "record-mnist-softmax")
    assert digits.Case(4, 0.4, "softmax") in digits.TRIED
    for name in ("features", "classifier", "softmax", "ridge"):
        assert cell.run[name] == case[name]


@torch.no_grad()
def test_mean_features_give_the_mean_scores_of_moved_images():
    torch.manual_seed(0)
    net = build("softkrotov-c6-k3-p1-t1:triangle_1:max_2_2_0 bp", (3, 10, 10), 4).eval()
    x = torch.randn(5, 3, 10, 10)
    found = dict(crops.seen(net, x))
    assert list(found) == list(crops.SHIFTS)
    for shifts, features in found.items():
        net.views = Views(shifts=shifts)
        assert_close(net.head[-1](features), net(x), TOLERANCES["float32_u"])


def test_a_layer_that_learns_is_set_beside_its_patches(tmp_path, monkeypatch):
    out, root = tmp_path / "layer.csv", write_mnist_subset(tmp_path / "data", 120)
    tried = [one_layer.Case(radius=3.0, epochs=epochs) for epochs in (0, 1)]
    tried += [one_layer.Case(), one_layer.Case(schedule="linear", lr=0.01)]
    monkeypatch.setattr(one_layer, "TRIED", tried)
    options = {"dataset": "mnist", "data": root, "images": 80, "validation": 40, "out": out}
    options |= {"neuron-factor": 0.01}
    assert one_layer.main([f"--{name}={value}" for name, value in options.items()]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["radius"], row["epochs"]) for row in rows] == [
        ("3.0", "0"),
        ("3.0", "1"),
        *[("6.0", "1")] * 2,
    ]
    assert [row["filters"] for row in rows] == ["20"] * 4
    untrained, norms = rows[0]["norm_mean"], [float(row["norm_mean"]) for row in rows[1:]]
    assert not untrained
    assert 1 < norms[0] < norms[1] != norms[2]
    assert all(0 < float(row["accuracy"]) <= 100 for row in rows)


def test_the_layer_of_the_record_is_among_those_tried():
    layer, _ = get_preset(one_layer.ONE_LAYER).layers
    assert layer in [case.layer(layer) for case in one_layer.TRIED]


def test_starts_are_judged_in_the_mean_over_seeds(tmp_path, monkeypatch):
    out, root = tmp_path / "starts.csv", write_mnist_subset(tmp_path / "data", 200)
    tried = [case for case in starts.TRIED if case.name in ("sampled patches", "random")]
    monkeypatch.setattr(starts, "TRIED", tried)
    options = {"dataset": "mnist", "data": root, "images": 140, "validation": 60, "out": out}
    options |= {"neuron-factor": 0.05}
    asked = [f"--{name}={value}" for name, value in options.items()]
    assert starts.main([*asked, "--seeds", "0", "3"]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["start"] for row in rows] == ["sampled patches", "random"]
    for row in rows:
        several = [float(accuracy) for accuracy in row["seeds"].split()]
        assert len(several) == 2
        assert float(row["accuracy"]) == pytest.approx(sum(several) / 2, abs=0.01)
        assert 20 < float(row["accuracy"]) <= 100
    assert rows[0]["norm_means"] != rows[1]["norm_means"]


def test_the_starts_of_the_record_are_among_those_tried():
    run = starts.RUN
    assert any(case.first == case.second == run["init"] and case.epochs for case in starts.TRIED)
