"""Mean absolute error: how far predicted numbers are from the true ones on average.

    MAE = mean of |predicted - true|

Source: Willmott and Matsuura, Advantages of the Mean Absolute Error (MAE) over the Root Mean Square Error (RMSE)
in Assessing Average Model Performance, 2005;
equal to scikit-learn's ``mean_absolute_error``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics.base import Summed


class MeanAbsoluteError(Summed):
    """Mean distance from the truth, in the units of the numbers; every unit of error weighs the same."""

    title, title_zh = "mean absolute error", "平均绝对误差"
    higher_is_better = False
    needs = "values"
    range = (0.0, float("inf"))

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the absolute error of each row, and 1, ``(rows, 2)``."""
        error = np.abs(predictions - targets).astype(np.float64)
        return np.stack([error, np.ones_like(error)], axis=1)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean error."""
        return divide(sums[..., 0], sums[..., 1])

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``mean_absolute_error``."""
        from sklearn.metrics import mean_absolute_error

        return lambda targets, predictions, classes: float(mean_absolute_error(targets, predictions))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return errors of 2, 0 and -2, and none at all."""
        return [
            {"targets": [1, 2, 3], "predictions": [3, 2, 1], "classes": 0, "value": 4 / 3},
            {"targets": [0.5], "predictions": [0.5], "classes": 0, "value": 0.0},
        ]
