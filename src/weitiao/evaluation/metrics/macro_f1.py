"""Macro-F1: the F1 of each class, averaged with every class counting the same.

With tp, support and predicted the counts of a class,

    F1 = 2 tp / (support + predicted)

and the mean is taken over the classes that occur among the targets or the predictions.

Source: van Rijsbergen, Information Retrieval, 1979, chapter 7 (the F measure); the averaging
convention is that of scikit-learn's ``f1_score(average="macro")``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import ClassCounts, class_counts, divide
from weitiao.evaluation.metrics.base import Metric
from weitiao.evaluation.panels import Panel, per_class


class MacroF1(Metric):
    """Mean F1 over the classes that occur; a rare class weighs as much as a frequent one."""

    title, title_zh = "macro-F1", "宏平均 F1"

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int) -> float:
        """Return the average F1, in [0, 1]."""
        return float(_average(class_counts(targets, predictions, classes))[0])

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int
    ) -> np.ndarray:
        """Return one average a resample."""
        return _average(class_counts(targets, predictions, classes, weights))

    def panels(self, targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str]) -> Sequence[Panel]:
        """Return precision, recall and F1 of every class."""
        return (per_class(targets, predictions, labels),)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``f1_score``."""
        from sklearn.metrics import f1_score

        settings: dict[str, Any] = {"average": "macro", "zero_division": 0}  # its type stub knows no number here
        return lambda targets, predictions, classes: float(f1_score(targets, predictions, **settings))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases worked out by hand: class F1s of 1, 2/3 and 2/3, and a class that never occurs."""
        return [
            {"targets": [0, 1, 2, 2], "predictions": [0, 1, 2, 1], "classes": 3, "value": 7 / 9},
            {"targets": [0, 0, 0, 1], "predictions": [0, 0, 0, 0], "classes": 5, "value": 3 / 7},
        ]


def _average(counts: ClassCounts) -> np.ndarray:
    total = counts.support + counts.predicted
    return divide(2 * counts.correct, total).sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)
