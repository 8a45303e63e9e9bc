"""Log loss: the mean of minus the logarithm of the probability given to the true class.

Probabilities are clipped to [eps, 1 - eps], eps that of float64, so one impossible row costs 36 and
not infinity.

Source: Good, Rational Decisions, 1952; clipping as in scikit-learn's ``log_loss``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics.base import Metric

_EPS = float(np.finfo(np.float64).eps)


class LogLoss(Metric):
    """Mean surprise at the true class, in nats; rewards probabilities that are honest, not only right."""

    title, title_zh = "log loss", "对数损失"
    higher_is_better = False
    needs = "probabilities"
    range = (0.0, float(-np.log(_EPS)))

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int) -> float:
        """Return the mean loss in nats; 0 is perfect, ``log(classes)`` is what a uniform guess gets."""
        return float(_losses(targets, predictions).mean())

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int
    ) -> np.ndarray:
        """Return one mean a resample."""
        return weights @ _losses(targets, predictions) / weights.sum(axis=1)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``log_loss``."""
        from sklearn.metrics import log_loss

        return lambda targets, predictions, classes: float(log_loss(targets, predictions, labels=range(classes)))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: halves, and a mean of two logarithms."""
        return [
            {"targets": [0, 1], "predictions": [[0.5, 0.5], [0.5, 0.5]], "classes": 2, "value": np.log(2)},
            {"targets": [0, 1], "predictions": [[0.8, 0.2], [0.75, 0.25]], "classes": 2, "value": np.log(5) / 2},
        ]


def _losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    true = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.clip(true, _EPS, 1 - _EPS))
