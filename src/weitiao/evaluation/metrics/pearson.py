"""Pearson's r: how close predicted and true numbers lie to a straight line.

    r = cov(x, y) / (sd(x) sd(y))

and 0 where either side is constant.

Source: Pearson, Note on Regression and Inheritance in the Case of Two Parents, 1895; equal to SciPy's
``pearsonr``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._correlation import correlation, moments, unless_constant
from weitiao.evaluation.metrics.base import Summed


class Pearson(Summed):
    """Linear correlation: 1 on a rising line, 0 unrelated; blind to predictions that are all too high or too spread."""

    title, title_zh = "Pearson correlation", "皮尔逊相关系数"
    needs = "values"
    range = (-1.0, 1.0)

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return first and second moments of each row, ``(rows, 6)``."""
        return moments(targets, predictions)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return r, in [-1, 1]."""
        return correlation(sums)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return SciPy's ``pearsonr``, 0 where it has no answer."""
        from scipy.stats import pearsonr

        return lambda targets, predictions, classes: unless_constant(pearsonr, targets, predictions)

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return a case by hand (covariance 2, squares 2 and 8/3), a falling line and a constant prediction."""
        return [
            {"targets": [1, 2, 3], "predictions": [0, 2, 2], "classes": 0, "value": 2 / (2 * 8 / 3) ** 0.5},
            {"targets": [1, 2, 3], "predictions": [9, 7, 5], "classes": 0, "value": -1.0},
            {"targets": [1, 2, 3], "predictions": [0.1, 0.1, 0.1], "classes": 0, "value": 0.0},
        ]
