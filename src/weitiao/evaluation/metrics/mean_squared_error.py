"""Mean squared error: the average squared distance of predicted from true numbers.

    MSE = mean of (predicted - true)²

Source: Gauss, Theoria Combinationis Observationum Erroribus Minimis Obnoxiae, 1821;
equal to scikit-learn's ``mean_squared_error``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics.base import Summed


class MeanSquaredError(Summed):
    """Mean of squared errors, in squared units: one large error weighs more than many small ones."""

    title, title_zh = "mean squared error", "均方误差"
    higher_is_better = False
    needs = "values"
    range = (0.0, float("inf"))

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the squared error of each row, and 1, ``(rows, 2)``."""
        error = np.square(predictions - targets).astype(np.float64)
        return np.stack([error, np.ones_like(error)], axis=1)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean error."""
        return divide(sums[..., 0], sums[..., 1])

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``mean_squared_error``."""
        from sklearn.metrics import mean_squared_error

        return lambda targets, predictions, classes: float(mean_squared_error(targets, predictions))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return errors of 2, 0 and -2, and none at all."""
        return [
            {"targets": [1, 2, 3], "predictions": [3, 2, 1], "classes": 0, "value": 8 / 3},
            {"targets": [0.5], "predictions": [0.5], "classes": 0, "value": 0.0},
        ]
