"""Average precision of facts: the area under the precision-recall curve of what would go into a knowledge base.

Every row with every relation is a fact, and facts are taken by falling probability. With the precision P and the recall
R among those down to the k-th different probability,

    AP = sum over k of (R_k - R_(k-1)) P_k

"No relation" (Other, no_relation, NA, none, 无关系; capitals or not) is no fact. 0 where no row has a relation.

Source: Mintz, Bills, Snow and Jurafsky, Distant supervision for relation extraction without labeled data, 2009,
ACL-IJCNLP, section 7.1 (held-out evaluation); the area as Lin et al., Neural Relation Extraction with Selective
Attention over Instances, 2016, ACL, and later work report it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._facts import NO_RELATION, facts
from weitiao.evaluation.metrics.base import Metric


class RelationAveragePrecision(Metric):
    """Area under the precision-recall curve over the relations of all rows, the surest first."""

    title, title_zh = "area under precision-recall", "PR 曲线下面积"
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
            precision = np.divide(right, taken, out=np.zeros(len(taken)), where=taken > 0)
            total = right[-1] if len(right) else 0.0
            values.append(float((np.diff(right, prepend=0.0) * precision).sum() / total) if total else 0.0)
        return np.array(values)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float] | None:
        """Return scikit-learn's, of all relations as one list."""
        from sklearn.metrics import average_precision_score

        def value(targets: np.ndarray, predictions: np.ndarray, classes: int) -> float:
            told = [
                (name == target, score)
                for target, said in zip(targets, predictions, strict=True)
                for name, score in said.items()
                if name.casefold() not in NO_RELATION
            ]
            if not any(right for right, _ in told):
                return 0.0
            return float(average_precision_score(*zip(*told, strict=True)))

        return value

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return a fact that is found second, (1/1 + 2/3) / 2, one that ties with a wrong one, and rows without any."""
        sure = {"a": 0.9, "NA": 0.1}
        return [
            {
                "targets": ["a", "NA", "a"],
                "predictions": [sure, {"a": 0.6, "NA": 0.4}, {"a": 0.5, "NA": 0.5}],
                "classes": 2,
                "value": (1 + 2 / 3) / 2,
            },
            {"targets": ["a", "NA"], "predictions": [sure, sure], "classes": 2, "value": 0.5},
            {"targets": ["NA"], "predictions": [sure], "classes": 2, "value": 0.0},
        ]
