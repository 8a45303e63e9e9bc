"""Macro-F1 over labels: the F1 of each label of multi-label rows, with every label counting the same.

With tp, true and predicted the counts of a label,

    F1 = 2 tp / (true + predicted)

and 0 for a label that is neither true nor predicted anywhere; the mean is taken over all labels.

Source: Lewis, Evaluating Text Categorization, 1991 (the macro average); equal to scikit-learn's
``f1_score(average="macro", zero_division=0)`` on indicator arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics.base import Summed


class LabelMacroF1(Summed):
    """Mean F1 over all labels; a rare label weighs as much as a frequent one, and one that never occurs counts 0."""

    title, title_zh = "macro-F1 over labels", "标签宏平均 F1"
    needs = "label_sets"

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return correct, true and predicted, each with one column a label, ``(rows, 3 * labels)``."""
        return np.concatenate([targets & predictions, targets, predictions], axis=1).astype(np.float64)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean of the labels' F1."""
        correct, true, predicted = np.split(sums, 3, axis=-1)
        return divide(2 * correct, true + predicted).mean(axis=-1)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``f1_score``."""
        from sklearn.metrics import f1_score

        settings: dict[str, Any] = {"average": "macro", "zero_division": 0}  # its type stub knows no number here
        return lambda targets, predictions, classes: float(f1_score(targets, predictions, **settings))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return labels with F1s of 1, 0 and 2/3, and a case where one of two labels never occurs."""
        true = [[True, False, True], [False, True, False]]
        said = [[True, True, True], [False, False, True]]
        return [
            {"targets": true, "predictions": said, "classes": 3, "value": 5 / 9},
            {"targets": [[True, False]], "predictions": [[True, False]], "classes": 2, "value": 0.5},
        ]
