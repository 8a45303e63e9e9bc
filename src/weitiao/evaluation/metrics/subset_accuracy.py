"""Subset accuracy: the share of rows whose set of labels is right as a whole.

Source: Wu and Zhou, A Unified View of Multi-Label Performance Measures, 2017, arXiv:1609.00288, table 1; equal
to scikit-learn's ``accuracy_score`` on indicator arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics.base import Summed


class SubsetAccuracy(Summed):
    """Share of rows with exactly the true labels; one label too many or too few makes a row wrong."""

    title, title_zh = "subset accuracy", "子集准确率"
    needs = "label_sets"

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return whether each row is right, and 1, ``(rows, 2)``."""
        right = (targets == predictions).all(axis=1).astype(np.float64)
        return np.stack([right, np.ones_like(right)], axis=1)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the share of right rows."""
        return divide(sums[..., 0], sums[..., 1])

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``accuracy_score``."""
        from sklearn.metrics import accuracy_score

        return lambda targets, predictions, classes: float(accuracy_score(targets, predictions))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return one row of two with one label too many; a row without labels can be right."""
        return [
            {
                "targets": [[True, False], [False, False]],
                "predictions": [[True, True], [False, False]],
                "classes": 2,
                "value": 0.5,
            }
        ]
