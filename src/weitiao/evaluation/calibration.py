"""Whether confidences mean what they say: the reliability table.

Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ReliabilityBin", "bin_of", "mean_gap", "reliability"]


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose confidence lies in ``(low, high]``: how many, how confident, how often right (0 without rows)."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return the index of the equal-width bin, open below and closed above, that holds each confidence."""
    return np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")


def reliability(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """Compare confidence with accuracy, bin by bin.

    Parameters
    ----------
    probabilities
        ``(rows, classes)``; confidence is the largest of a row.
    targets
        ``(rows,)``, class indices.
    bins
        Equal-width bins over (0, 1]; 15 as in the paper.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    where = bin_of(confidence, bins)
    n = np.bincount(where, minlength=bins)
    safe = np.maximum(n, 1)
    sure = np.bincount(where, confidence, minlength=bins) / safe
    hits = np.bincount(where, right, minlength=bins) / safe
    return tuple(
        ReliabilityBin(b / bins, (b + 1) / bins, int(n[b]), float(sure[b]), float(hits[b])) for b in range(bins)
    )


def mean_gap(bins: tuple[ReliabilityBin, ...]) -> float:
    """Return the mean distance of confidence from accuracy over a reliability table, weighted by rows, in [0, 1]."""
    rows = sum(b.n for b in bins)
    return sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / max(rows, 1)
