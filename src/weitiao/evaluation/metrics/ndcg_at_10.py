"""nDCG at 10: whether the most relevant candidates stand highest among the first ten.

    DCG = sum over ranks i = 1..10 of  relevance(i) / log2(i + 1)

divided by the DCG of the best order of the same candidates; the mean over queries, and 0 for a query without
a relevant candidate. The gain is the relevance itself and not 2^relevance - 1.

Source: Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques, 2002; equal to
scikit-learn's ``ndcg_score(k=10)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._ranks import QueryMean, mean_of

_DISCOUNTS = 1 / np.log2(np.arange(10) + 2)


class NdcgAt10(QueryMean):
    """Discounted relevance of the first ten candidates, as a share of the most they could have."""

    title, title_zh = "nDCG@10", "归一化折损累计增益@10"

    def score(self, relevances: Sequence[float]) -> float:
        """Return the gain as a share of the best order's."""
        return _gain(relevances) / _gain(sorted(relevances, reverse=True))

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``ndcg_score``."""
        from sklearn.metrics import ndcg_score

        return mean_of(partial(ndcg_score, k=10))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return a best order, a relevant candidate at rank 3 (1 / log2(4)), one at rank 11, and none at all."""
        lists = [(3, 1, 0), (0, 0, 1), (*[0] * 10, 1), (0, 0)]
        return [{"targets": lists, "predictions": lists, "classes": 0, "value": 1.5 / 4}]


def _gain(relevances: Sequence[float]) -> float:
    best = np.asarray(relevances[:10], dtype=np.float64)
    return float(best @ _DISCOUNTS[: len(best)])
