"""Precision at 100: of the hundred surest facts, the share that is right.

Every row with every relation is a fact, and facts are taken by falling probability; with fewer than 100, all of them.
Of facts that tie for the last places each counts by the share of them that has a place.

"No relation" (Other, no_relation, NA, none, 无关系; capitals or not) is no fact.

Source: Lin, Shen, Liu, Luan and Sun, Neural Relation Extraction with Selective Attention over Instances, 2016, ACL,
section 4.4 (P@N of distant supervision). Differs: ties are shared out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weitiao.evaluation.metrics._facts import facts
from weitiao.evaluation.metrics.base import Metric

_MOST = 100


class RelationPrecisionAt100(Metric):
    """Share of right facts among the hundred that the model is surest of."""

    title, title_zh = "precision at 100", "前 100 条的精确率"
    needs = "named_probabilities"

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int = 0) -> float:
        """Return the value of these rows."""
        return float(self.weighted(targets, predictions, np.ones((1, len(targets))))[0])

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int = 0
    ) -> np.ndarray:
        """Return one value a resample, ``(resamples,)``; facts are put in order once."""
        found, values = facts(targets, predictions), []
        for counts in weights:
            each = counts[found.rows]
            taken, right = (np.cumsum(one)[found.ends] for one in (each, each * found.right))
            if not len(taken) or not taken[-1]:
                values.append(0.0)
                continue
            most = min(float(_MOST), taken[-1])
            last = int(np.searchsorted(taken, most))
            before, hits = (taken[last - 1], right[last - 1]) if last else (0.0, 0.0)
            hits += (right[last] - hits) * (most - before) / (taken[last] - before)
            values.append(float(hits / most))
        return np.array(values)

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return three facts of which two are right, and 101 that tie, of which one is."""
        sure = {"a": 0.9, "NA": 0.1}
        return [
            {"targets": ["a", "NA", "a"], "predictions": [sure] * 3, "classes": 2, "value": 2 / 3},
            {"targets": ["a"] + ["NA"] * 100, "predictions": [sure] * 101, "classes": 2, "value": 1 / 101},
            {"targets": ["NA"], "predictions": [{"NA": 1.0}], "classes": 2, "value": 0.0},
        ]
