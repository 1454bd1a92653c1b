from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from softhebb_fast.training import RidgeClassifier, SoftmaxClassifier, cholesky, memory, ridge_sums
from softhebb_fast.training.ridge import FACTORS, RidgeSettings, squared_error
from tests.tolerances import TOLERANCES, assert_close

SHAPES = {"more rows": (203, 31), "more features": (29, 167), "as many": (57, 57)}
CLASSES = 5
EXACT = {"products": "float64"}


def data(rows: int, features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features far from 0, of different scales, one constant, one twice; a class is missing."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    x = torch.randn(rows, features, **options) * (0.2 + torch.rand(features, **options)) + 3
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    labels[labels == 2] = 4
    x[:, :CLASSES] += torch.eye(CLASSES, dtype=torch.float64)[labels]
    x[:, 3], x[:, 7] = 7.7, x[:, 8]
    return x, labels


def oracle(x: Tensor, labels: Tensor, penalty: float, standardise: bool, of: Tensor) -> Tensor:
    """The scores of the rows ``of``, by NumPy's least squares with rows for the penalty."""
    a, y = x.numpy(), np.eye(CLASSES)[labels.numpy()]
    mean, scale = a.mean(axis=0), a.std(axis=0) if standardise else np.ones(a.shape[1])
    scale[3] = 1
    z = (a - mean) / scale
    rows = np.vstack([z, np.sqrt(penalty) * np.eye(a.shape[1])])
    targets = np.vstack([y - y.mean(axis=0), np.zeros((a.shape[1], CLASSES))])
    weight = np.linalg.lstsq(rows, targets, rcond=None)[0]
    return torch.from_numpy((of.numpy() - mean) / scale @ weight + y.mean(axis=0))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("standardise", [False, True], ids=["as it is", "standardised"])
@pytest.mark.parametrize("penalty", [0.3, 40.0])
def test_it_is_penalised_least_squares(shape, form, standardise, penalty):
    (x, labels), (other, _) = data(*shape), data(*shape, seed=1)
    options = {"standardise": standardise, "form": form, "penalty": penalty, **EXACT}
    found = RidgeClassifier(CLASSES, **options).fit(x, labels, chunk=13)
    for rows in (x, other):
        expected = oracle(x, labels, penalty, standardise, rows)
        assert_close(found.scores(rows), expected, TOLERANCES["ridge"])
    assert found.penalty == penalty
    assert found.trials == []
    assert found.weight.shape == (CLASSES, shape[1])
    assert not (found.predict(other) == 2).any()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_float32_products_are_summed_in_float64(shape):
    x, labels = data(*shape)
    single = RidgeClassifier(CLASSES, penalty=1.0).fit(x.float(), labels, chunk=13)
    double = RidgeClassifier(CLASSES, penalty=1.0, **EXACT).fit(x, labels)
    assert_close(single.scores(x), double.scores(x), TOLERANCES["ridge_float32"])


# The primal form of more features than rows has a difference of numbers that are nearly equal.
@pytest.mark.parametrize(
    ("form", "shape", "penalty"),
    [
        (form, shape, penalty)
        for form in ("primal", "dual")
        for shape in SHAPES.values()
        for penalty in ("gcv", "holdout")
        if (form, shape[0] < shape[1], penalty) != ("primal", True, "gcv")
    ],
)
@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"sums": "float32"}, "ridge_float32"),
        ({"kept": "float16"}, "ridge_float16"),
        ({"kept": "bfloat16", "sums": "float32"}, "ridge_bfloat16"),
    ],
    ids=str,
)
def test_less_memory_gives_nearly_the_same(form, shape, penalty, settings, tolerance):
    x, labels = data(*shape)
    options = {"form": form, "penalty": penalty, "factors": (0.01, 0.1, 1.0)}
    whole = RidgeClassifier(CLASSES, **options, **EXACT).fit(x, labels)
    found = RidgeClassifier(CLASSES, **options, **settings).fit(x, labels, chunk=13)
    assert found.penalty == pytest.approx(whole.penalty, rel=TOLERANCES[tolerance])
    assert_close(found.scores(x), whole.scores(x), TOLERANCES[tolerance])
    for trial, expected in zip(found.trials, whole.trials, strict=True):
        for name in trial.keys() & {"gcv", "holdout_squared_error"}:
            assert trial[name] == pytest.approx(expected[name], rel=TOLERANCES[tolerance])


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_features_beyond_the_dtype_they_are_kept_in_are_refused(form):
    x, labels = data(30, 10)
    found = RidgeClassifier(CLASSES, form=form, kept="float16", holdout=0.3).begin(30, 10)
    x[20, 4] = 1e6
    held = found.drawn(30, 0)
    held[20] = True
    with pytest.raises(ValueError, match=r"wider range than float16 for features up to 9\d{5}"):
        found.add(x, labels, held)
    found.add(x / 100, labels, held)
    assert found.solve().weight.isfinite().all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("penalty", [0.7, "gcv", "holdout"])
def test_blocks_and_chunks_make_no_difference(shape, penalty, monkeypatch):
    x, labels = data(*shape)
    whole = RidgeClassifier(CLASSES, penalty=penalty, **EXACT).fit(x, labels)
    monkeypatch.setattr(ridge_sums, "BLOCK", 11)
    monkeypatch.setattr(cholesky, "BLOCK", 7)
    found = RidgeClassifier(CLASSES, penalty=penalty, **EXACT).fit(x, labels, chunk=17)
    assert found.penalty == pytest.approx(whole.penalty, rel=TOLERANCES["ridge"])
    assert_close(found.weight, whole.weight, TOLERANCES["ridge"])
    assert_close(found.bias, whole.bias, TOLERANCES["ridge"])


def hat(x: Tensor, penalty: float) -> Tensor:
    """The matrix that makes fitted targets of targets, the bias included."""
    centred, rows = x - x.mean(0), len(x)
    inner = centred.t() @ centred + penalty * torch.eye(x.shape[1], dtype=torch.float64)
    return centred @ torch.linalg.solve(inner, centred.t()) + 1 / rows


# The primal form of more features than rows has a difference of numbers that are nearly equal.
@pytest.mark.parametrize(
    ("form", "shape"), [("primal", (203, 31)), ("dual", (203, 31)), ("dual", (29, 167))]
)
def test_cross_validation_is_that_of_the_hat_matrix(form, shape):
    x, labels = data(*shape)
    found = RidgeClassifier(CLASSES, penalty="gcv", form=form, **EXACT).fit(x, labels)
    targets = torch.eye(CLASSES, dtype=torch.float64)[labels]
    by_hand = {}
    unit = float((x - x.mean(0)).square().sum() / x.shape[1])
    for factor in FACTORS:
        left = torch.eye(len(x), dtype=torch.float64) - hat(x, factor * unit)
        error = (left @ targets).square().sum() / len(x)
        by_hand[factor * unit] = float(error / (left.trace() / len(x)) ** 2)
    tried = {trial["penalty"]: trial["gcv"] for trial in found.trials}
    assert list(tried) == pytest.approx(list(by_hand), rel=TOLERANCES["ridge"])
    assert list(tried.values()) == pytest.approx(list(by_hand.values()), rel=1e-6)
    assert found.penalty == pytest.approx(min(by_hand, key=by_hand.get), rel=TOLERANCES["ridge"])
    fixed = RidgeClassifier(CLASSES, penalty=found.penalty, **EXACT).fit(x, labels)
    assert_close(found.scores(x), fixed.scores(x), TOLERANCES["ridge"])


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("standardise", [False, True], ids=["as it is", "standardised"])
def test_the_penalty_is_judged_by_the_rows_held_out(form, shape, standardise):
    x, labels = data(*shape)
    options = {"standardise": standardise, "holdout": 0.3, **EXACT}
    found = RidgeClassifier(CLASSES, form=form, **options).fit(x, labels, chunk=13, seed=3)
    held = found.drawn(len(x), 3)
    assert int(held.sum()) == round(0.3 * len(x))
    z = x / torch.where(x.std(0) > 1e-9, x.std(0, correction=0), 1.0) if standardise else x
    for trial in found.trials:
        part = RidgeClassifier(CLASSES, penalty=trial["penalty"], **EXACT)
        scores = part.fit(z[~held], labels[~held]).scores(z[held])
        correct = 100 * float((scores.argmax(1) == labels[held]).double().mean())
        error = float(squared_error(scores, labels[held])) / len(scores)
        assert trial["holdout_accuracy"] == pytest.approx(correct)
        assert trial["holdout_squared_error"] == pytest.approx(error, rel=1e-6)
    order = ("holdout_accuracy", "holdout_squared_error", "penalty")
    ranked = [(-t[order[0]], t[order[1]], -t[order[2]]) for t in found.trials]
    assert found.penalty == -min(ranked)[2]
    expected = oracle(x, labels, found.penalty, standardise, x)  # of all rows
    assert_close(found.scores(x), expected, TOLERANCES["ridge"])


def test_the_fewer_equations_are_solved():
    for rows, features, form in ((203, 31, "primal"), (29, 167, "dual"), (57, 57, "primal")):
        x, labels = data(rows, features)
        assert RidgeClassifier(CLASSES, penalty=1.0).fit(x, labels).form == form


def test_maps_are_flattened():
    x, labels = data(40, 36)
    flat = RidgeClassifier(CLASSES, penalty=1.0).fit(x, labels)
    maps = RidgeClassifier(CLASSES, penalty=1.0).fit(x.view(40, 4, 3, 3), labels)
    assert torch.equal(flat.weight, maps.weight)
    assert torch.equal(flat.predict(x), maps.predict(x.view(40, 4, 3, 3)))


def test_features_that_are_all_constant_leave_the_most_frequent_class():
    x, labels = torch.full((50, 4), 2.5), torch.arange(50) % 3
    for settings in ({}, {"standardise": True}, {"penalty": "gcv"}, {"penalty": 1.0}):
        found = RidgeClassifier(3, **settings).fit(x, labels)
        assert not found.weight.any()
        assert found.bias.tolist() == pytest.approx([17 / 50, 17 / 50, 16 / 50])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("of", [23, 31], ids=["whole", "a corner of a larger one"])
def test_a_solution_leaves_the_lower_triangle_as_it_was(dtype, of, monkeypatch):
    monkeypatch.setattr(cholesky, "BLOCK", 7)
    a = torch.randn(23, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = (a @ a.t()).to(dtype)
    lower = torch.full((of, of), torch.nan, dtype=dtype)[:23, :23]
    lower.copy_(a.tril() + torch.full_like(a, torch.nan).triu(1))
    right = a[:, :3].double()
    found = cholesky.solved(lower, right, 0.5)
    a = a.double()
    expected = torch.linalg.solve(a + 0.5 * torch.eye(23, dtype=torch.float64), right)
    assert_close(found, expected, TOLERANCES["ridge"])
    assert torch.equal(lower.tril(), a.tril().to(dtype))
    assert cholesky.solved(-a.to(dtype), right, 0.0) is None
    assert torch.equal(cholesky.solved(lower, right, 0.5), found)


def equations(rows: int, spread: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """A matrix of ``rows`` random samples of 40 features whose deviations span ``spread``, and what
    it shall equal, the last column zero."""
    generator = torch.Generator().manual_seed(0)
    options = {"dtype": torch.float64, "generator": generator}
    x = torch.randn(rows, 40, **options) * torch.logspace(0, -math.log10(spread), 40).double()
    right = x.t() @ torch.randn(rows, 3, **options)
    right[:, 2] = 0
    return scale * x.t() @ x, scale * right


@pytest.mark.parametrize("block", [7, 1024])
@pytest.mark.parametrize(
    ("given", "penalty", "factors"),
    [
        (equations(90, 1.0), 0.0, 1),
        (equations(90, 30.0), 0.0, 1),
        (equations(11, 1.0), 1e-3, 1),
        (equations(11, 1.0), 1e-9, 2),  # what float32 does not tell from singular
        (equations(90, 1e4), 0.0, 2),
        (equations(90, 1.0, 1e38), 0.0, 2),  # beyond the largest number of float32
    ],
    ids=["round", "long", "few-rows", "few-rows-little-penalty", "very-long", "huge"],
)
def test_factors_in_float32_are_corrected_or_replaced(given, penalty, factors, block, monkeypatch):
    monkeypatch.setattr(cholesky, "BLOCK", block)
    made = []

    class Counted(cholesky.Factor):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(cholesky, "Factor", Counted)
    matrix, right = given
    found = cholesky.solved(matrix.clone(), right, penalty)
    whole = matrix + penalty * torch.eye(40, dtype=torch.float64)
    left = (whole @ found - right).norm(dim=0)
    assert (left <= TOLERANCES["ridge"] * right.norm(dim=0)).all()
    assert found[:, 2].eq(0).all()
    assert len(made) == factors


def test_equations_that_are_singular_up_to_rounding_are_not_solved():
    matrix, right = equations(11, 1.0)
    assert cholesky.solved(matrix, right, 0.0) is None


def test_equations_that_cannot_be_solved():
    x, labels = data(57, 57)
    with pytest.raises(ValueError, match="penalty must be larger for these features: 0 leaves"):
        RidgeClassifier(CLASSES, penalty=0, form="dual").fit(x, labels)
    found = RidgeClassifier(CLASSES, factors=(1e-30, 1e-2), form="dual", **EXACT).fit(x, labels)
    assert list(found.trials[0]) == ["penalty"]
    assert found.penalty == found.trials[1]["penalty"]
    with pytest.raises(ValueError, match="factors must be larger"):
        RidgeClassifier(CLASSES, factors=(1e-30,), form="dual").fit(x, labels)


def test_too_little_memory_is_said_before_any_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3 << 30)
    found = RidgeClassifier(10, penalty=1.0)
    needed = (
        r"of 60000 features from 90000 images would take 29\.6 GiB, more than the 3\.0 GiB that"
    )
    with pytest.raises(ValueError, match=needed + " are free on cpu: take fewer layers"):
        found.begin(90_000, 60_000)
    with pytest.raises(ValueError, match="or penalty=holdout, which needs less"):
        RidgeClassifier(10, penalty="gcv").begin(90_000, 20_000)
    found.begin(90_000, 100)


def test_smaller_dtypes_need_less_memory():
    def gib(samples: int, features: int, **settings) -> float:
        return RidgeClassifier(10, **settings).bytes_needed(samples, features) / 2**30

    assert gib(50_000, 75_000) > 32
    assert gib(50_000, 75_000, sums="float32", kept="bfloat16") < 19
    assert gib(50_000, 38_000, sums="float32", kept="bfloat16") < 8


def test_the_memory_of_a_control_group_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    whole = memory.free_bytes()
    files = {"max": "5000\n", "current": "3000\n", "stat": "anon 1000\ninactive_file 700\n"}
    for name, text in files.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_bytes() == 2700
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes() > 2700
    assert whole is None or whole > 2700


BAD = {
    "classes": (lambda: RidgeClassifier(1), ValueError, "classes must be at least 2; got 1"),
    "penalty": (
        lambda: RidgeClassifier(3, penalty="loo"),
        ValueError,
        "penalty must be a number or one of holdout, gcv; got 'loo'",
    ),
    "negative": (lambda: RidgeClassifier(3, penalty=-1), ValueError, "penalty must be finite and"),
    "holdout": (
        lambda: RidgeClassifier(3, holdout=1),
        ValueError,
        "holdout must lie between 0",
    ),
    "standardise": (
        lambda: RidgeClassifier(3, standardise=2),
        TypeError,
        "standardise must be a bool; got 2",
    ),
    "factors": (lambda: RidgeClassifier(3, factors=(1, 1)), ValueError, "factors must rise"),
    "no factors": (lambda: RidgeClassifier(3, factors=3), TypeError, "factors must be a list"),
    "products": (
        lambda: RidgeClassifier(3, products="float16"),
        ValueError,
        "products must be one of float32, float64; got 'float16'",
    ),
    "sums": (
        lambda: RidgeClassifier(3, sums="bfloat16"),
        ValueError,
        "sums must be one of float32, float64; got 'bfloat16'",
    ),
    "exact products": (
        lambda: RidgeClassifier(3, products="float64", sums="float32"),
        ValueError,
        "sums must be float64 for products='float64'; got 'float32'",
    ),
    "kept": (
        lambda: RidgeClassifier(3, kept="int8"),
        ValueError,
        "kept must be one of None, bfloat16, float16, float32, float64; got 'int8'",
    ),
    "form": (
        lambda: RidgeClassifier(3, form="both"),
        ValueError,
        "form must be one of auto",
    ),
}


@pytest.mark.parametrize(("make", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_named(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize(
    "make", [partial(RidgeClassifier, CLASSES, **EXACT), partial(SoftmaxClassifier, CLASSES)]
)
def test_bad_chunks_are_named_and_nothing_of_them_is_taken_in(make):
    x, labels = data(30, 10)
    found = make(penalty=1.0)
    with pytest.raises(ValueError, match="begin"):
        found.add(x, labels)
    with pytest.raises(ValueError, match="fitted before"):
        found.scores(x)
    found.begin(30, 10)
    infinite = x.clone()
    infinite[4, 5] = torch.inf
    for bad, message in (
        ((x[:, :9], labels), r"x must have 10 features; got \(30, 9\)"),
        ((x, labels[:29]), r"labels must be int64 \[30\]"),
        ((x, labels + 1), "labels must lie in 0 .. 4; got 1 .. 5"),
        ((x.long(), labels), "x must be floating point"),
        ((infinite, labels), "x must be finite"),
        ((torch.cat((x, x)), labels.repeat(2)), "to 30 at most, as announced; got 60"),
        ((x, labels, torch.ones(30, dtype=torch.bool)), "held is for penalty='holdout'"),
    ):
        with pytest.raises(ValueError, match=message):
            found.add(*bad)
    with pytest.raises(ValueError, match="got 0 of them"):
        found.solve()
    found.add(x, labels)
    whole = make(penalty=1.0).fit(x, labels)
    assert torch.equal(found.solve().weight, whole.weight)
    for held in (None, torch.ones(30, dtype=torch.bool)):
        other = make().begin(30, 10)
        other.add(x, labels, held)
        with pytest.raises(ValueError, match="held must hold out some of 30 rows"):
            other.solve()
    with pytest.raises(ValueError, match="holdout must hold out one of 4 images"):
        make().fit(x[:4], labels[:4])
    for held in (torch.ones(30), torch.ones(29, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"held must be bool \(30,\); got torch"):
            make().begin(30, 10).add(x, labels, held)


def test_settings_survive_json():
    settings = RidgeSettings(penalty=3, factors=[0.1, 1])
    assert RidgeSettings(**settings.to_dict()) == settings
    assert settings.to_dict()["factors"] == [0.1, 1.0]


@pytest.mark.parametrize("penalty", ["gcv", "holdout", 1.0])
@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("scale", [1e20, 1e39])
def test_features_whose_products_overflow_are_named(form, penalty, scale):
    x, labels = data(60, 12)
    classifier = RidgeClassifier(CLASSES, penalty=penalty, form=form)
    with pytest.raises(ValueError, match="x must have products that are finite in float32"):
        classifier.fit(scale * x, labels)
    if scale == 1e20 and penalty != 1.0:  # which is nothing beside such features
        exact = RidgeClassifier(CLASSES, penalty=penalty, form=form, **EXACT, kept="float64")
        assert exact.fit(scale * x, labels).weight.isfinite().all()


@pytest.mark.parametrize("penalty", ["gcv", 1.0])
@pytest.mark.parametrize("form", ["primal", "dual"])
def test_an_empty_chunk_adds_nothing(form, penalty):
    x, labels = data(40, 12)
    found = []
    for parts in ((0, 0, 40), (0, 40)):
        classifier = RidgeClassifier(CLASSES, penalty=penalty, form=form).begin(40, 12)
        for start, end in pairwise(parts):
            classifier.add(x[start:end], labels[start:end])
        found.append(classifier.solve().weight)
    assert torch.equal(*found)


def test_bad_arguments_of_a_fitted_classifier_are_named():
    x, labels = data(40, 12)
    classifier = RidgeClassifier(CLASSES, penalty=1.0)
    with pytest.raises(TypeError, match="seed must be an int"):
        classifier.fit(x, labels, seed="a")
    classifier.fit(x, labels)
    with pytest.raises(ValueError, match=r"x must be \[N, ...\] of 12 features"):
        classifier.scores(x[0])
    with pytest.raises(TypeError, match=r"x must be a .*; got ndarray"):
        classifier.scores(x.numpy())
    judged = RidgeClassifier(CLASSES).begin(40, 12)
    with pytest.raises(TypeError, match=r"held must be a .*; got list"):
        judged.add(x, labels, [True] * 40)
