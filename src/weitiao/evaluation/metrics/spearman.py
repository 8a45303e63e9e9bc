"""Spearman's rho: whether predictions put rows in the order of the true numbers.

Pearson's r of the ranks, tied rows sharing the mean of their ranks; 0 where either side is constant. Ranks
are not sums over rows, so every resample of a bootstrap is ranked anew: slower than Pearson's r.

Source: Spearman, The Proof and Measurement of Association between Two Things, 1904; equal to SciPy's
``spearmanr``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._correlation import correlation, moments, unless_constant
from weitiao.evaluation.metrics.base import Metric


class Spearman(Metric):
    """Correlation of ranks: 1 in the same order, -1 reversed; any rising scale of predictions is as good as another."""

    title, title_zh = "Spearman correlation", "斯皮尔曼等级相关系数"
    needs = "values"
    range = (-1.0, 1.0)

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int = 0) -> float:
        """Return rho, in [-1, 1]."""
        from scipy.stats import rankdata

        return float(correlation(moments(rankdata(targets), rankdata(predictions)).sum(axis=0)))

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return SciPy's ``spearmanr``, 0 where it has no answer."""
        from scipy.stats import spearmanr

        return lambda targets, predictions, classes: unless_constant(spearmanr, targets, predictions)

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return the same order on another scale, one swap of four (1 - 6 * 2 / 60), and a constant prediction."""
        return [
            {"targets": [1, 2, 3], "predictions": [1, 10, 1000], "classes": 0, "value": 1.0},
            {"targets": [1, 2, 3, 4], "predictions": [1, 3, 2, 4], "classes": 0, "value": 0.8},
            {"targets": [1, 2, 3], "predictions": [5, 5, 5], "classes": 0, "value": 0.0},
        ]
