"""Micro-F1: the F1 of all labels of all rows pooled, so that a frequent label weighs more.

    F1 = 2 tp / (true + predicted)

over every pair of row and label at once, and 0 where no label is true or predicted.

Source: Lewis, Evaluating Text Categorization, 1991 (the micro average); equal to scikit-learn's
``f1_score(average="micro", zero_division=0)`` on indicator arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics.base import Summed


class MicroF1(Summed):
    """F1 over all pairs of row and label; hides a rare label that is never found, so read it beside the macro one."""

    title, title_zh = "micro-F1", "微平均 F1"
    needs = "label_sets"

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return correct, true and predicted labels of each row, ``(rows, 3)``."""
        sides = (targets & predictions, targets, predictions)
        return np.stack([side.sum(axis=1) for side in sides], axis=1).astype(np.float64)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return F1 of correct, true and predicted labels."""
        return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``f1_score``."""
        from sklearn.metrics import f1_score

        settings: dict[str, Any] = {"average": "micro", "zero_division": 0}  # its type stub knows no number here
        return lambda targets, predictions, classes: float(f1_score(targets, predictions, **settings))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return two right of three true and four predicted, and rows without labels."""
        true = [[True, False, True], [False, True, False]]
        said = [[True, True, True], [False, False, True]]
        none = [[False, False, False]] * 2
        return [
            {"targets": true, "predictions": said, "classes": 3, "value": 4 / 7},
            {"targets": none, "predictions": none, "classes": 3, "value": 0.0},
        ]
