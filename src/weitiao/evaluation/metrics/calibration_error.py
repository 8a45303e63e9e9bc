"""Expected calibration error: how far confidence and accuracy are apart, averaged over 15 bins.

    sum over bins b of  n_b / n * | accuracy(b) - confidence(b) |

Confidence is the largest probability of a row; bins are equal-width over (0, 1], open below. Biased
upwards on few rows (empty noise counts as error), so its bootstrap interval is too; read n beside it.

Source: Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599, equation 3, with the
15 bins used there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.calibration import bin_of
from weitiao.evaluation.metrics.base import Metric

_BINS = 15


class CalibrationError(Metric):
    """Mean distance of confidence from accuracy: 0.05 means that a stated 90% is, roughly, 85% or 95%."""

    title, title_zh = "calibration error", "校准误差"
    higher_is_better = False
    needs = "probabilities"

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int) -> float:
        """Return the weighted mean gap, in [0, 1]; 0 is perfect."""
        gap, bins = _gaps(targets, predictions)
        return float(np.abs(np.bincount(bins, gap, minlength=_BINS)).sum() / len(targets))

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int
    ) -> np.ndarray:
        """Return one value a resample."""
        gap, bins = _gaps(targets, predictions)
        by_bin = np.zeros((len(targets), _BINS))
        by_bin[np.arange(len(targets)), bins] = gap
        return np.abs(weights @ by_bin).sum(axis=1) / weights.sum(axis=1)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return the equation as a plain loop over bins."""

        def loop(targets: np.ndarray, predictions: np.ndarray, classes: int) -> float:
            confidence, right = predictions.max(axis=1), predictions.argmax(axis=1) == targets
            total = 0.0
            for b in range(_BINS):
                inside = (confidence > b / _BINS) & (confidence <= (b + 1) / _BINS)
                if inside.any():
                    total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
            return float(total)

        return loop

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: gaps of 0.1 and 0.4 in two bins; two rows of one bin that cancel."""
        return [
            {"targets": [0, 0], "predictions": [[0.9, 0.1], [0.6, 0.4]], "classes": 2, "value": 0.25},
            {"targets": [0, 1], "predictions": [[0.5, 0.5], [0.5, 0.5]], "classes": 2, "value": 0.0},
        ]


def _gaps(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    return right - confidence, bin_of(confidence, _BINS)  # n_b (accuracy - confidence) is a sum over the rows of b
