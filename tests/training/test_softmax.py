from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from softhebb_fast.training import SoftmaxClassifier, memory
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.ranks import Ranks
from softhebb_fast.training.run_folder import load_run
from softhebb_fast.training.softmax import SoftmaxSettings
from softhebb_fast.training.trainer import Trainer
from tests.tiny import trainer, write_mnist_subset
from tests.tolerances import TOLERANCES, assert_close
from tests.training.test_ridge import CLASSES, data

CLOSE = {"iterations": 1000}


def oracle(
    x: Tensor, labels: Tensor, penalty: float, standardise: bool, smoothing: float, of: Tensor
) -> Tensor:
    """The scores of the rows ``of``, by scikit-learn in coordinates from NumPy's eigenvectors.

    Scores are as far from their mean over the classes as any others: only that is compared.
    """
    a = x.numpy()
    mean, scale = a.mean(axis=0), a.std(axis=0) if standardise else np.ones(a.shape[1])
    scale[3] = 1
    z = (a - mean) / scale
    covariance = np.cov(z.T, bias=True)
    values, vectors = np.linalg.eigh(
        covariance + smoothing * covariance.trace() / len(covariance) * np.eye(len(covariance))
    )
    root = vectors / np.sqrt(values) @ vectors.T
    solver = LogisticRegression(C=1 / (2 * penalty * len(z)), tol=1e-9, max_iter=10_000)
    solver.fit(z @ root, labels.numpy())
    found = np.full((len(of), CLASSES), np.nan)
    found[:, solver.classes_] = solver.decision_function((of.numpy() - mean) / scale @ root)
    return torch.from_numpy(found)


@pytest.mark.parametrize("shape", [(203, 31), (29, 67)], ids=["more rows", "more features"])
@pytest.mark.parametrize("standardise", [False, True], ids=["as it is", "standardised"])
@pytest.mark.parametrize(("penalty", "smoothing"), [(1e-3, 0.1), (0.1, 2.0)])
def test_it_is_softmax_regression(shape, standardise, penalty, smoothing):
    (x, labels), (other, _) = data(*shape), data(*shape, seed=1)
    options = {"standardise": standardise, "penalty": penalty, "smoothing": smoothing}
    found = SoftmaxClassifier(CLASSES, **options, **CLOSE).fit(x, labels, chunk=13)
    there = labels.unique()
    for rows in (x, other):
        expected = oracle(x, labels, penalty, standardise, smoothing, rows)[:, there]
        scores = found.scores(rows)[:, there]
        centred = [s - s.mean(1, keepdim=True) for s in (scores, expected)]
        assert_close(*centred, TOLERANCES["softmax"])
    assert (found.penalty, found.trials) == (penalty, [])
    assert found.weight.shape == (CLASSES, shape[1])
    assert found.weight.dtype == found.bias.dtype == torch.float64
    assert not (found.predict(other) == 2).any()


def test_the_best_penalty_on_held_out_rows_is_taken():
    x, labels = data(203, 31)
    found = SoftmaxClassifier(CLASSES, factors=(1e-6, 1e-3, 1e-2, 1e3)).fit(x, labels, seed=3)
    held = found.drawn(203, 3)
    assert int(held.sum()) == 20
    tried = {trial["penalty"]: trial["holdout_accuracy"] for trial in found.trials}
    assert list(tried) == [1e-6, 1e-3, 1e-2, 1e3]
    best = max(tried.values())
    assert found.penalty == max(penalty for penalty, right in tried.items() if right == best)
    alone = SoftmaxClassifier(CLASSES, penalty=1e-2, **CLOSE).fit(x[~held], labels[~held])
    correct = 100 * float((alone.predict(x[held]) == labels[held]).double().mean())
    assert tried[1e-2] == pytest.approx(correct)


def test_chunks_and_held_rows_in_any_place_are_one_fit():
    x, labels = data(203, 31)
    whole = SoftmaxClassifier(CLASSES).fit(x, labels, chunk=203)
    parts = SoftmaxClassifier(CLASSES).fit(x, labels, chunk=17)
    assert parts.penalty == whole.penalty
    assert_close(parts.scores(x), whole.scores(x), TOLERANCES["softmax"])
    again = SoftmaxClassifier(CLASSES).fit(x, labels, chunk=17)
    assert torch.equal(again.weight, parts.weight)
    assert torch.equal(again.bias, parts.bias)


def test_features_that_are_all_equal_leave_the_shares_of_the_classes():
    labels = torch.tensor([0] * 30 + [1] * 10)
    found = SoftmaxClassifier(2, penalty=1e-3, **CLOSE).fit(torch.full((40, 3), 5.0), labels)
    assert not found.weight.any()
    shares = found.scores(torch.zeros(1, 3)).softmax(1)
    assert_close(shares, torch.tensor([[0.75, 0.25]], dtype=torch.float64), TOLERANCES["softmax"])


BAD = {
    "classes": (lambda: SoftmaxClassifier(1), ValueError, "classes must be at least 2; got 1"),
    "penalty": (
        lambda: SoftmaxClassifier(3, penalty="gcv"),
        ValueError,
        "number or one of holdout",
    ),
    "no penalty": (lambda: SoftmaxClassifier(3, penalty=0), ValueError, "penalty must be positive"),
    "holdout": (lambda: SoftmaxClassifier(3, holdout=1), ValueError, "holdout must lie between 0"),
    "standardise": (lambda: SoftmaxClassifier(3, standardise=2), TypeError, "must be a bool"),
    "factors": (lambda: SoftmaxClassifier(3, factors=(2, 1)), ValueError, "factors must rise"),
    "smoothing": (lambda: SoftmaxClassifier(3, smoothing=-1), ValueError, "smoothing must be"),
    "iterations": (lambda: SoftmaxClassifier(3, iterations=0), ValueError, "iterations must be"),
}


@pytest.mark.parametrize(("make", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_named(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_features_beyond_float32_are_named():
    x, labels = data(30, 10)
    found = SoftmaxClassifier(CLASSES, penalty=0.1).begin(30, 10)
    x[4, 5] = 1e39
    with pytest.raises(ValueError, match="x must be finite in float32"):
        found.add(x, labels)


def test_smoothing_that_rounding_leaves_without_effect_is_named():
    x, labels = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="smoothing must be larger for these features; 1e-30"):
        SoftmaxClassifier(2, penalty=0.1, smoothing=1e-30).fit(x, labels)


def test_too_little_memory_is_said_before_any_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3 << 30)
    found = SoftmaxClassifier(10)
    with pytest.raises(ValueError, match=r"softmax classifier of 20000 features .* or the ridge"):
        found.begin(60_000, 20_000)
    found.begin(60_000, 100)


def test_settings_survive_json():
    settings = SoftmaxSettings(penalty=3, factors=[0.1, 1])
    assert SoftmaxSettings(**settings.to_dict()) == settings


def test_a_run_ends_in_it(tmp_path):
    root = write_mnist_subset(tmp_path / "data")
    changes = {"classifier": "softmax", "probe_epochs": None, "softmax": {"factors": [0.01, 0.1]}}
    run = trainer(tmp_path / "run", root, **changes)
    summary = run.run()
    assert run.config.softmax["iterations"] == SoftmaxSettings.iterations
    *_, first, second, last = run.rows
    assert (first["phase"], second["phase"], last["phase"]) == ("penalty", "penalty", "softmax")
    assert summary["penalty"] == last["penalty"]
    loaded = load_run(tmp_path / "run")
    assert loaded.evaluate(root) == (summary["test_loss"], summary["test_accuracy"])


def test_it_learns_in_one_process(tmp_path, monkeypatch):
    several = Ranks()
    several.size = 2
    monkeypatch.setattr(Ranks, "here", lambda: several)
    config = RunConfig("DemoMNIST", "mnist", classifier="softmax")
    with pytest.raises(ValueError, match="classifier='softmax' learns in one process; got 2"):
        Trainer(config, tmp_path)
