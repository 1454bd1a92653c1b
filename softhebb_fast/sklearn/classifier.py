"""Hebbian features and a classifier of them, as one estimator of scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from softhebb_fast.scalars import positive
from softhebb_fast.sklearn.features import DTYPES, HebbianFeatures, images_as_rows
from softhebb_fast.training import RidgeClassifier

CLASSIFIERS = ("ridge", "softmax")
STEPS = 1000  # of the softmax classifier at most


class HebbianClassifier(ClassifierMixin, BaseEstimator):
    """Features learned without labels, and a linear classifier that learns from labels.

    ``X`` is what `HebbianFeatures` takes, and so are all arguments but these:

    Args:
        classifier: ``"ridge"``, in closed form (``training.RidgeClassifier``); or ``"softmax"``
            (scikit-learn's ``LogisticRegression``), which also gives ``predict_proba``.
        penalty: of the squared weights. None: for ridge the λ of the least generalised
            cross-validation error, for softmax 1. A number: that λ, for softmax ``C = 1 / λ``. For
            ridge also ``"gcv"`` or ``"holdout"``.

    Attributes:
        classes_: the classes.
        features_: the fitted `HebbianFeatures`.
        classifier_: the fitted ``RidgeClassifier`` or ``LogisticRegression``.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Raises ValueError or TypeError in ``fit`` for arguments, ``X`` or ``y`` that do not do.
    """

    classes_: np.ndarray
    features_: HebbianFeatures
    classifier_: LogisticRegression | RidgeClassifier

    def __init__(
        self,
        n_components: int = 100,
        *,
        network: str | nn.Sequential | None = None,
        image_shape: tuple[int, int, int] | None = None,
        epochs: int = 5,
        batch_size: int = 10,
        classifier: str = "ridge",
        penalty: float | str | None = None,
        backend: str = "auto",
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.network = network
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.classifier = classifier
        self.penalty = penalty
        self.backend = backend
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train the features on ``X``, then the classifier on them and ``y``."""
        classifier = self._classifier_to_fit()
        rows, shape = images_as_rows(X, self.image_shape)
        rows, y = validate_data(self, rows, y, dtype=DTYPES)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y must have two classes at least; got one class, {classes[0]!r}")
        own = HebbianFeatures._get_param_names()
        given = {name: getattr(self, name) for name in own} | {"image_shape": shape}
        found = HebbianFeatures(**given)
        x = found.fit(rows).transform(rows)
        if isinstance(classifier, LogisticRegression):
            classifier.fit(x, labels)
        else:
            classifier = RidgeClassifier(len(classes), penalty=classifier, products="float64")
            classifier.fit(torch.from_numpy(x), torch.from_numpy(labels))
        self.classes_, self.features_, self.classifier_ = classes, found, classifier
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """The scores ``[n, classes]``; of two classes ``[n]``, positive for the second."""
        x = self._features(X)
        if isinstance(self.classifier_, LogisticRegression):
            return self.classifier_.decision_function(x)
        scores = self.classifier_.scores(torch.from_numpy(x)).numpy()
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The class ``[n]`` with the largest score."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[best]

    @available_if(lambda self: self.classifier == "softmax")
    def predict_proba(self, X: Any) -> np.ndarray:
        """The softmax probabilities ``[n, classes]``; only of ``classifier="softmax"``."""
        x = self._features(X)
        return self.classifier_.predict_proba(x)

    def _classifier_to_fit(self) -> LogisticRegression | float | str:
        """The softmax classifier, or the penalty of a ridge classifier."""
        if self.classifier not in CLASSIFIERS:
            raise ValueError(
                f"classifier must be one of {', '.join(CLASSIFIERS)}; got {self.classifier!r}"
            )
        if self.classifier == "ridge":
            return "gcv" if self.penalty is None else self.penalty
        penalty = 1.0 if self.penalty is None else positive("penalty", self.penalty)
        return LogisticRegression(C=1 / penalty, max_iter=STEPS)

    def _features(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        rows, _ = images_as_rows(X, self.features_.image_shape_)
        rows = validate_data(self, rows, dtype=DTYPES, reset=False)
        return self.features_.transform(rows)
