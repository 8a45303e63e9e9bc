"""Per-class counts of a thousand weighted confusion matrices at once, without building any of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["ClassCounts", "class_counts", "divide"]


class ClassCounts(NamedTuple):
    """Diagonal, row sums and column sums of confusion matrices; each ``(resamples, classes)``."""

    correct: np.ndarray
    support: np.ndarray
    predicted: np.ndarray


def class_counts(
    targets: np.ndarray, predictions: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> ClassCounts:
    """Count correct, true and predicted rows of each class, under one or many weightings of the rows."""
    if weights is None:
        hit = targets[targets == predictions]
        counts = (np.bincount(x, minlength=classes)[None, :] for x in (hit, targets, predictions))
        return ClassCounts(*(c.astype(np.float64) for c in counts))
    from scipy.sparse import csr_array

    rows = np.arange(len(targets))
    hit = rows[targets == predictions]
    # the three one-hot matrices stacked, so that one sparse product serves all
    group = np.concatenate([targets[hit], targets + classes, predictions + 2 * classes])
    member = np.concatenate([hit, rows, rows])
    one_hot = csr_array((np.ones(len(group)), (group, member)), shape=(3 * classes, len(targets)))
    sums = (one_hot @ weights.T).T
    return ClassCounts(sums[:, :classes], sums[:, classes : 2 * classes], sums[:, 2 * classes :])


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, giving 0 where the denominator is 0 (scikit-learn's ``zero_division=0``)."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
