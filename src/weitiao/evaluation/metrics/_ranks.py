"""Means over queries of a score of each query's ranked candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics.base import Summed

__all__ = ["QueryMean", "mean_of", "recall"]


class QueryMean(Summed):
    """The mean over queries of `score`; a query without a relevant candidate counts 0."""

    needs = "ranks"

    def score(self, relevances: Sequence[float]) -> float:
        """Return the score of one query from its candidates' relevances, best-scored first; one at least is > 0."""
        raise NotImplementedError

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the score of each query, and 1, ``(rows, 2)``."""
        scores = [self.score(found) if any(r > 0 for r in found) else 0.0 for found in predictions]
        return np.stack([np.array(scores, dtype=np.float64), np.ones(len(scores))], axis=1)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean score."""
        return divide(sums[..., 0], sums[..., 1])


def recall(relevances: Sequence[float], k: int) -> float:
    """Return the share of the relevant candidates that are among the first `k`."""
    return sum(r > 0 for r in relevances[:k]) / sum(r > 0 for r in relevances)


def mean_of(
    score: Callable[[np.ndarray, np.ndarray], float],
) -> Callable[[np.ndarray, np.ndarray, int], float]:
    """Return a reference that is the mean over queries of `score(relevances, scores)`, a function of scikit-learn.

    Both are ``(1, candidates)``; scores fall from first to last. A query without a relevant candidate counts 0.
    """

    def mean(targets: np.ndarray, predictions: np.ndarray, classes: int) -> float:
        values = []
        for found in predictions:
            relevances = np.array([[*found, 0]], dtype=np.float64)  # scikit-learn wants two candidates at least
            falling = -np.arange(relevances.size, dtype=np.float64)[None]
            values.append(score(relevances, falling) if relevances.any() else 0.0)
        return float(np.mean(values))

    return mean
