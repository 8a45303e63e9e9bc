"""Accuracy: the share of rows whose predicted class is the true one.

Source: plain proportion; equal to scikit-learn's ``accuracy_score``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weitiao.evaluation.metrics.base import Metric
from weitiao.evaluation.panels import Panel, confusion


class Accuracy(Metric):
    """Share of rows that are right; blind to which classes are wrong, so read it beside a per-class average."""

    title, title_zh = "accuracy", "准确率"

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int) -> float:
        """Return the share of equal entries, in [0, 1]."""
        return float(np.mean(targets == predictions))

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int
    ) -> np.ndarray:
        """Return one share a resample."""
        return weights @ (targets == predictions).astype(np.float64) / weights.sum(axis=1)

    def panels(self, targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str]) -> Sequence[Panel]:
        """Return which class was taken for which."""
        return (confusion(targets, predictions, labels),)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``accuracy_score``."""
        from sklearn.metrics import accuracy_score

        return lambda targets, predictions, classes: float(accuracy_score(targets, predictions))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return two cases counted by hand."""
        return [
            {"targets": [0, 1, 2, 2], "predictions": [0, 1, 2, 1], "classes": 3, "value": 0.75},
            {"targets": [0, 1], "predictions": [1, 0], "classes": 2, "value": 0.0},
        ]
