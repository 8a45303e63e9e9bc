"""Matthews correlation coefficient: the correlation of true and predicted classes.

With c correct rows of n, and t and p the true and predicted counts of the classes,

    MCC = (c n - sum t p) / sqrt((n^2 - sum p^2) (n^2 - sum t^2))

and 0 where the denominator is 0 (one side is constant).

Source: Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient,
2004, equation 8; for two classes Matthews, 1975. Equal to scikit-learn's ``matthews_corrcoef``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import ClassCounts, class_counts, divide
from weitiao.evaluation.metrics.base import Metric


class MatthewsCorrelation(Metric):
    """Correlation of truth and prediction: 1 perfect, 0 no better than chance, below 0 worse than chance."""

    title, title_zh = "MCC", "马修斯相关系数"
    range = (-1.0, 1.0)

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int) -> float:
        """Return the correlation, in [-1, 1]."""
        return float(_correlation(class_counts(targets, predictions, classes))[0])

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int
    ) -> np.ndarray:
        """Return one correlation a resample."""
        return _correlation(class_counts(targets, predictions, classes, weights))

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``matthews_corrcoef``."""
        from sklearn.metrics import matthews_corrcoef

        return lambda targets, predictions, classes: float(matthews_corrcoef(targets, predictions))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return the 2x2 case by hand (tp 3, tn 1, fp 1, fn 1) and a constant prediction."""
        return [
            {"targets": [1, 1, 1, 1, 0, 0], "predictions": [1, 1, 1, 0, 1, 0], "classes": 2, "value": 0.25},
            {"targets": [0, 1, 2], "predictions": [1, 1, 1], "classes": 3, "value": 0.0},
        ]


def _correlation(counts: ClassCounts) -> np.ndarray:
    rows, correct = counts.support.sum(axis=1), counts.correct.sum(axis=1)
    covariance = correct * rows - (counts.support * counts.predicted).sum(axis=1)
    spread = (rows**2 - (counts.predicted**2).sum(axis=1)) * (rows**2 - (counts.support**2).sum(axis=1))
    return np.clip(divide(covariance, np.sqrt(spread)), -1.0, 1.0)  # rounding can pass 1 by one ulp
