"""Estimators of scikit-learn (``pip install 'softhebb_fast[sklearn]'``).

from softhebb_fast.sklearn import HebbianFeatures
model = make_pipeline(MinMaxScaler(), HebbianFeatures(random_state=0), LogisticRegression())
"""

from softhebb_fast.sklearn.classifier import HebbianClassifier
from softhebb_fast.sklearn.features import HebbianFeatures

__all__ = ["HebbianClassifier", "HebbianFeatures"]
