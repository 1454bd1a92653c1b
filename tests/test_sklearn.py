"""The estimators, by scikit-learn's own checks and by what people do with them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("sklearn", reason="waits for scikit-learn (the extra sklearn)")

from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from softhebb_fast import SoftHebbBlock, SoftHebbLinear, plots
from softhebb_fast.sklearn import HebbianClassifier, HebbianFeatures

QUICK = {"n_components": 20, "epochs": 1, "random_state": 0}


def digits(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 8x8 pixels in 0 .. 1, and labels."""
    x, y = load_digits(return_X_y=True)
    return x[:count] / 16, y[:count]


@parametrize_with_checks([HebbianFeatures(), HebbianClassifier()])
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([HebbianClassifier(classifier="softmax")])
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn_with_softmax(estimator, check):
    check(estimator)


@pytest.mark.parametrize("classifier", ["ridge", "softmax"])
def test_digits_are_told_apart(classifier):
    x, y = digits(1797)
    options = {"image_shape": (1, 8, 8), "n_components": 30, "epochs": 1, "random_state": 0}
    found = HebbianClassifier(classifier=classifier, **options).fit(x[:1000], y[:1000])
    pixels = LogisticRegression(max_iter=1000).fit(x[:1000], y[:1000])
    assert found.score(x[1000:], y[1000:]) > pixels.score(x[1000:], y[1000:]) + 0.02


def test_images_and_their_rows_are_the_same():
    x, _ = digits()
    images = x.reshape(-1, 1, 8, 8)
    by_shape = HebbianFeatures(image_shape=(1, 8, 8), **QUICK).fit(x)
    by_images = HebbianFeatures(**QUICK).fit(images)
    assert by_images.image_shape_ == (1, 8, 8)
    assert by_images.n_features_in_ == 64
    found = by_images.transform(images)
    assert found.shape == (300, 20 * 4 * 4)
    for other in (by_images.transform(x), by_shape.transform(x), by_shape.transform(images)):
        assert np.array_equal(found, other)


def test_seeds_decide():
    x, _ = digits()
    state = torch.get_rng_state()
    first = HebbianFeatures(**QUICK).fit_transform(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(first, HebbianFeatures(**QUICK).fit_transform(x))
    assert not np.array_equal(
        first, HebbianFeatures(**QUICK | {"random_state": 1}).fit_transform(x)
    )
    generator = np.random.RandomState(3)
    again = [HebbianFeatures(**QUICK | {"random_state": generator}) for _ in range(2)]
    assert not np.array_equal(*(estimator.fit_transform(x) for estimator in again))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_have_the_dtype_of_their_input(dtype):
    x, _ = digits()
    estimator = HebbianFeatures(**QUICK).fit(x.astype(np.float32))
    assert estimator.transform(x.astype(dtype)).dtype == dtype
    assert np.allclose(estimator.transform(x.astype(dtype)), estimator.transform(x), atol=1e-5)


@pytest.mark.slow
def test_a_pipeline_is_searched():
    x, y = digits()
    pipeline = make_pipeline(
        MinMaxScaler(), HebbianFeatures(**QUICK), LogisticRegression(max_iter=500)
    )
    grid = {"hebbianfeatures__n_components": [5, 40], "logisticregression__C": [1.0]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(x, y)
    assert search.best_params_["hebbianfeatures__n_components"] == 40
    grid = {"classifier": ["ridge", "softmax"], "penalty": [0.1, 10.0]}
    search = GridSearchCV(HebbianClassifier(**QUICK), grid, cv=2, error_score="raise").fit(x, y)
    assert search.best_score_ > 0.7


def test_copies_and_pickles_predict_the_same():
    x, y = digits()
    fitted = HebbianClassifier(classifier="softmax", **QUICK).fit(x, y)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(x), fitted.predict_proba(x))
    fresh = clone(fitted)
    assert not hasattr(fresh, "classes_")
    assert np.array_equal(fresh.fit(x, y).predict_proba(x), fitted.predict_proba(x))


def test_tables_come_out_with_names():
    pandas = pytest.importorskip("pandas", reason="waits for pandas")
    x, _ = digits(50)
    table = pandas.DataFrame(x, columns=[f"p{i}" for i in range(64)])
    estimator = HebbianFeatures(**QUICK).set_output(transform="pandas")
    found = estimator.fit_transform(table)
    assert list(found.columns) == list(estimator.get_feature_names_out())
    assert found.columns[19] == "hebbianfeatures19"
    assert list(estimator.feature_names_in_) == list(table.columns)
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(table[table.columns[::-1]])


def test_labels_may_be_words():
    x, y = digits()
    words = np.array(["even", "odd"])[y % 2]
    found = HebbianClassifier(**QUICK).fit(x, words)
    assert found.decision_function(x).shape == (300,)
    assert found.score(x, words) > 0.85
    with pytest.raises(AttributeError, match="predict_proba"):
        found.predict_proba(x)


def test_own_networks_are_trained_as_copies():
    x, _ = digits()
    vectors = nn.Sequential(SoftHebbLinear(64, 7, lr=0.1, update="in_place"))
    before = vectors[0].weight.clone()
    estimator = HebbianFeatures(network=vectors, epochs=1).fit(x)
    assert estimator.transform(x).shape == (300, 7)
    assert torch.equal(vectors[0].weight, before)
    assert not torch.equal(estimator.network_[1].weight, before)
    images = nn.Sequential(SoftHebbBlock(1, 3, 3, lr=0.1, update="in_place"))
    found = HebbianFeatures(network=images, image_shape=(1, 8, 8), epochs=1).fit_transform(x)
    assert found.shape == (300, 3 * 6 * 6)


def test_networks_in_words_and_their_pictures(tmp_path):
    x, _ = digits()
    words = "softkrotov-c4-k3-p1-t1-lr0.08-lp0.5:triangle_1:max_2_2_0 BP"
    estimator = HebbianFeatures(network=words, image_shape=(1, 8, 8), epochs=1).fit(x)
    assert estimator.transform(x).shape == (300, 4 * 4 * 4)
    rows, neurons = estimator.figures_
    written = plots.plot_run(estimator.network_, rows, tmp_path, recorded=neurons)
    assert [path.name for path in written] == ["filters.png", "curves.png"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components must be at least 1"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0"),
        ({"image_shape": (1, 8)}, TypeError, r"image_shape must be \(C, H, W\)"),
        ({"image_shape": (3, 8, 8)}, ValueError, r"192 features for images \(3, 8, 8\); got 64"),
        ({"network": "2HebbianNothing"}, ValueError, "must be a preset"),
        ({"network": "BP-c4-k3:relu BP"}, ValueError, "Hebbian layers alone"),
        ({"network": nn.Sequential(nn.Flatten())}, ValueError, "must have a SoftHebb layer"),
        ({"backend": "gpu"}, ValueError, "backend must be one of"),
        ({"device": "nowhere"}, ValueError, "device must be usable here; got 'nowhere'"),
    ],
)
def test_mistakes_are_named(options, error, message):
    x, _ = digits(20)
    with pytest.raises(error, match=message):
        HebbianFeatures(**options).fit(x)


def test_data_that_do_not_do_are_named():
    x, y = digits(20)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        HebbianFeatures().fit(sparse.csr_matrix(x))
    with pytest.raises(ValueError, match="finite in float32"):
        HebbianFeatures().fit(x * 1e200)
    fitted = HebbianFeatures(image_shape=(1, 8, 8), **QUICK).fit(x)
    with pytest.raises(ValueError, match=r"images \(1, 8, 8\).*got \(4, 4, 4\)"):
        fitted.transform(x.reshape(-1, 4, 4, 4))
    with pytest.raises(ValueError, match="classifier must be one of ridge, softmax; got 'svm'"):
        HebbianClassifier(classifier="svm").fit(x, y)
    with pytest.raises(ValueError, match="two classes at least; got one class"):
        HebbianClassifier().fit(x, np.zeros(20))
