"""Mean reciprocal rank: how far down the first relevant candidate stands.

The mean over queries of 1 / rank of the first relevant candidate, and 0 for a query that has none.

Source: Voorhees, The TREC-8 Question Answering Track Report, 1999. With no candidate after the first relevant
one counted, equal to scikit-learn's ``label_ranking_average_precision_score``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._ranks import QueryMean, mean_of


class MeanReciprocalRank(QueryMean):
    """Mean of 1 / rank of the first relevant candidate: 1 where it always stands first, 0.5 where second."""

    title, title_zh = "MRR", "平均倒数排名"

    def score(self, relevances: Sequence[float]) -> float:
        """Return 1 / rank of the first relevant candidate."""
        return 1 / next(rank for rank, relevance in enumerate(relevances, start=1) if relevance > 0)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``label_ranking_average_precision_score`` of the first relevant candidate."""
        from sklearn.metrics import label_ranking_average_precision_score

        def score(relevances: np.ndarray, scores: np.ndarray) -> float:
            first = (np.cumsum(relevances > 0, axis=1) == 1) & (relevances > 0)
            return float(label_ranking_average_precision_score(first, scores))

        return mean_of(score)

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return first relevant candidates at ranks 1, 2 and 4, and a query without one."""
        lists = [(1, 0, 1), (0, 2), (0, 0, 0, 1), (0, 0)]
        return [{"targets": lists, "predictions": lists, "classes": 0, "value": 1.75 / 4}]
